"""The whole surface on one screen."""

from aiohttp import web
from aiohttp.typedefs import Handler

from rqueue.web import inbox, jobs, queues, service
from rqueue.web.middleware import expectation

# Each is served with and without a last slash, and without a redirect between the two.
ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/v1/{type}/", jobs.list_jobs),
    ("POST", "/v1/{type}/", jobs.create_jobs),
    ("GET", "/v1/{type}/{request_id}", jobs.get_job),
    ("POST", "/v1/{type}/{request_id}", jobs.change_job),
    ("DELETE", "/v1/{type}/{request_id}", jobs.delete_job),
    ("GET", "/queues/", queues.list_queues),
    ("GET", "/queues/{type}", queues.get_queue),
    ("PUT", "/queues/{type}", queues.put_queue),
    ("GET", "/queues/{type}/pools/{pool}", queues.get_pool),
    ("PUT", "/queues/{type}/pools/{pool}", queues.put_pool),
    ("DELETE", "/queues/{type}/pools/{pool}", queues.delete_pool),
    ("GET", "/healthz", service.healthz),
    ("GET", "/readyz", service.readyz),
    ("GET", "/metrics", service.metrics),
)
# Only on the embedded server, for trying out.
INBOX_ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/inbox/", inbox.show_inbox),
    ("POST", "/inbox/{path:.+}", inbox.take_inbox),
)


def add(router: web.UrlDispatcher, routes: tuple[tuple[str, str, Handler], ...]) -> None:
    """Put routes on a router. A name in a path may hold anything, braces too."""
    bare = [path.rstrip("/") for _, path, _ in routes]
    written = [path for _, path, _ in routes]
    # One resource a path, since the router tries one after the other: those that are written here first.
    for path in dict.fromkeys(written + bare + [f"{path}/" for path in bare]):
        resource = router.add_resource(path if ":" in path else path.replace("}", ":[^/]+}"))
        for method, route, handler in routes:
            if route.rstrip("/") == path.rstrip("/"):
                for served in ("GET", "HEAD") if method == "GET" else (method,):
                    resource.add_route(served, handler, expect_handler=expectation)
