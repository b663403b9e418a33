"""An error that a client is told about, with gRPC's word for it."""

# As TensorFlow Serving translates them.
HTTP_STATUS = {
    "CANCELLED": 499,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNKNOWN": 500,
    "UNAVAILABLE": 503,
    "UNAUTHENTICATED": 401,
}


class ServingError(Exception):
    """A request that cannot be answered.

    Attributes:
        code: a key of :data:`HTTP_STATUS`.
        message: what happened and what was expected.
        http_status: of a REST answer; None takes the code's.
    """

    def __init__(self, code: str, message: str, http_status: int | None = None):
        super().__init__(message)
        self.code, self.message = code, message
        self.http_status = http_status or HTTP_STATUS[code]


def stopping() -> ServingError:
    """What clients are told that a server which is being stopped does not answer."""
    return ServingError("UNAVAILABLE", "the server is stopping; try again")
