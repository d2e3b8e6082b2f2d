"""The whole surface on one screen."""

from aiohttp import web
from aiohttp.typedefs import Handler

from rqueue.domain.caller import Right
from rqueue.web import auth, board, events, inbox, jobs, queues, service, simulate

# A method, a path, what does it, and the right that it takes; None where it is open to all. Handlers look
# closer: at the type, at the owner, and at what a change is about.
Route = tuple[str, str, Handler, Right | None]
# Each is served with and without a last slash, and without a redirect between the two.
ROUTES: tuple[Route, ...] = (
    ("GET", "/v1/{type}/", jobs.list_jobs, Right.READ_JOBS),
    ("POST", "/v1/{type}/", jobs.create_jobs, Right.WRITE_JOBS),
    ("GET", "/v1/{type}/{request_id}", jobs.get_job, Right.READ_JOBS),
    ("POST", "/v1/{type}/{request_id}", jobs.change_job, Right.WRITE_JOBS),
    ("DELETE", "/v1/{type}/{request_id}", jobs.delete_job, Right.WRITE_JOBS),
    ("GET", "/v1/{type}/{request_id}/events", events.list_job_events, Right.READ_JOBS),
    ("GET", "/queues/", queues.list_queues, Right.READ_QUEUES),
    ("GET", "/queues/{type}", queues.get_queue, Right.READ_QUEUES),
    ("PUT", "/queues/{type}", queues.put_queue, Right.PAUSE_QUEUES),
    ("POST", "/queues/{type}/simulate", simulate.simulate, Right.READ_JOBS),
    ("GET", "/queues/{type}/events", events.list_events, Right.READ_JOBS),
    ("GET", "/queues/{type}/pools/{pool}", queues.get_pool, Right.READ_QUEUES),
    ("PUT", "/queues/{type}/pools/{pool}", queues.put_pool, Right.WRITE_QUEUES),
    ("DELETE", "/queues/{type}/pools/{pool}", queues.delete_pool, Right.WRITE_QUEUES),
    ("GET", "/board/", board.board, None),
    ("GET", "/board/{file:[a-z]+[.][a-z]+}", board.board_file, None),
    ("GET", "/board/vendor/{file:[a-z]+[.][a-z]+}", board.board_vendor, None),
    ("GET", "/board/session", auth.show_session, Right.READ_JOBS),
    ("GET", "/healthz", service.healthz, None),
    ("GET", "/readyz", service.readyz, None),
    ("GET", "/metrics", service.metrics, Right.READ_QUEUES),
    ("GET", "/openapi.json", service.openapi, None),
    ("GET", "/docs/", service.show_docs, None),
    ("GET", "/docs/{file}", service.get_docs_file, None),
)
# Only where one has to say who one is.
LOGIN_ROUTES: tuple[Route, ...] = (
    ("POST", "/board/login", auth.login, None),
    ("POST", "/board/logout", auth.logout, None),
)
# Only on the embedded server, for trying out.
INBOX_ROUTES: tuple[Route, ...] = (
    ("GET", "/inbox/", inbox.show_inbox, Right.READ_QUEUES),
    ("POST", "/inbox/{path:.+}", inbox.take_inbox, None),
)


def add(router: web.UrlDispatcher, routes: tuple[Route, ...]) -> None:
    """Put routes on a router. A name in a path may hold anything, braces too."""
    bare = [path.rstrip("/") for _, path, _, _ in routes]
    written = [path for _, path, _, _ in routes]
    # One resource a path, since the router tries one after the other: those that are written here first.
    for path in dict.fromkeys(written + bare + [f"{path}/" for path in bare]):
        # A name may hold the end of a line, at which a dot alone would stop.
        pattern = path.replace(":.+}", ":(?s:.+)}") if ":" in path else path.replace("}", ":[^/]+}")
        resource = router.add_resource(pattern)
        for method, route, handler, _ in routes:
            if route.rstrip("/") == path.rstrip("/"):
                for served in ("GET", "HEAD") if method == "GET" else (method,):
                    resource.add_route(served, handler)


RIGHTS: dict[Handler, Right | None] = {
    handler: right for _, _, handler, right in (*ROUTES, *LOGIN_ROUTES, *INBOX_ROUTES)
}
