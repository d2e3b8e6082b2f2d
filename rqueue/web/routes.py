"""The whole surface on one screen."""

from aiohttp import web
from aiohttp.typedefs import Handler

from rqueue.web import inbox, jobs, queues, service
from rqueue.web.middleware import expectation

# Each is served with and without a last slash, and without a redirect between the two.
ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/v1/{type}", jobs.list_jobs),
    ("POST", "/v1/{type}", jobs.create_jobs),
    ("GET", "/v1/{type}/{request_id}", jobs.get_job),
    ("POST", "/v1/{type}/{request_id}", jobs.change_job),
    ("DELETE", "/v1/{type}/{request_id}", jobs.delete_job),
    ("GET", "/queues", queues.list_queues),
    ("GET", "/queues/{type}", queues.get_queue),
    ("PUT", "/queues/{type}", queues.put_queue),
    ("GET", "/queues/{type}/pools/{pool}", queues.get_pool),
    ("PUT", "/queues/{type}/pools/{pool}", queues.put_pool),
    ("DELETE", "/queues/{type}/pools/{pool}", queues.delete_pool),
    ("GET", "/healthz", service.healthz),
    ("GET", "/readyz", service.readyz),
)
# Only on the embedded server, for trying out.
INBOX_ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/inbox", inbox.show_inbox),
    ("POST", "/inbox/{path:.+}", inbox.take_inbox),
)


def add(router: web.UrlDispatcher, routes: tuple[tuple[str, str, Handler], ...]) -> None:
    """Put routes on a router. A name in a path may hold anything, braces too."""
    for method, path, handler in routes:
        for variant in (path, path + "/"):
            pattern = variant if ":" in variant else variant.replace("}", ":[^/]+}")
            if method == "GET":
                router.add_get(pattern, handler, expect_handler=expectation)
            else:
                router.add_route(method, pattern, handler, expect_handler=expectation)
