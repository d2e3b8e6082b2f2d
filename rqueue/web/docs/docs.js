const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
follow();
dark.addEventListener("change", follow);

// A path is a link inside of its operation's button, and a link in a button cannot be reached.
const plainPaths = ({ React }) => ({
  wrapComponents: { DeepLink: () => ({ text }) => React.createElement("span", null, text) },
});

// What Swagger UI gives no name, or none of its own, it is given here.
function name(root) {
  for (const field of root.querySelectorAll(":is(select, textarea, input:not([id])):not([aria-label])")) {
    const row = field.closest("tr[data-param-name]");
    field.setAttribute("aria-label", row ? row.dataset.paramName : field.matches("select") ? "Choose" : "Body");
  }
  for (const dialog of root.querySelectorAll(".modal-ux:not([role])")) {
    dialog.setAttribute("role", "dialog");
    dialog.setAttribute("aria-label", "Tokens");
    dialog.querySelector(".close-modal")?.setAttribute("aria-label", "Close");
  }
  for (const label of root.querySelectorAll("label[id]")) label.removeAttribute("id");
  for (const example of root.querySelectorAll("pre.microlight:not([tabindex])")) example.tabIndex = 0;
}

const api = document.getElementById("api");
new MutationObserver(() => name(api)).observe(api, { childList: true, subtree: true });

SwaggerUIBundle({
  url: "/openapi.json",
  domNode: api,
  deepLinking: true,
  docExpansion: "list",
  plugins: [plainPaths],
  // Its colours are too dark to be read, and take most of the time.
  syntaxHighlight: { activated: false },
  // Its own default is a badge from another host.
  validatorUrl: null,
});
