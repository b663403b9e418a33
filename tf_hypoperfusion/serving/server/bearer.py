"""The token that clients send, where one is asked for."""

import hmac


def is_token(header: str | bytes, token: str) -> bool:
    """Whether an ``Authorization`` header carries the token; takes as long whatever it holds."""
    text = header.decode("latin-1") if isinstance(header, bytes) else header
    scheme, _, value = text.partition(" ")
    same = hmac.compare_digest(value.strip().encode(), token.encode())
    return scheme.lower() == "bearer" and same
