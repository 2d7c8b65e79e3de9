"""Which path is answered by which endpoint."""

from __future__ import annotations

from tornado.web import RequestHandler

from nbllama.worker import endpoints, trace_pages


def routes() -> list[tuple[str, type[RequestHandler]]]:
    """The whole table; what is not in it is a 404 in the API's shape."""
    return [
        (r"/v1/messages", endpoints.MessagesEndpoint),
        (r"/v1/messages/count_tokens", endpoints.CountTokensEndpoint),
        (r"/v1/models", endpoints.ModelsEndpoint),
        (r"/v1/models/(.+)", endpoints.ModelEndpoint),
        (r"/nbllama/handshake", endpoints.HandshakeEndpoint),
        (r"/nbllama/attach", endpoints.AttachEndpoint),
        (r"/nbllama/status", endpoints.StatusEndpoint),
        (r"/nbllama/traces", trace_pages.TracesEndpoint),
        (r"/nbllama/traces/([^/]+)", endpoints.TraceEndpoint),
        (r"/nbllama/traces/([^/]+)/fork", endpoints.ForkEndpoint),
        (r"/nbllama/traces/([^/]+)/tree", trace_pages.TreeEndpoint),
        (r"/nbllama/traces/([^/]+)/([^/]+)", trace_pages.TraceViewEndpoint),
        (r"/nbllama/requests", endpoints.RequestsEndpoint),
        (r"/nbllama/requests/([^/]+)/cancel", endpoints.CancelEndpoint),
        (r"/nbllama/tokenize", endpoints.TokenizeEndpoint),
        (r"/nbllama/format", endpoints.FormatEndpoint),
        (r"/nbllama/load", endpoints.LoadEndpoint),
        (r"/nbllama/unload", endpoints.UnloadEndpoint),
        (r"/nbllama/stop", endpoints.StopEndpoint),
        (r"/(?:api/hello)?", endpoints.HelloEndpoint),
    ]
