"""How much memory all requests hold at once, and that it is never too much."""

import threading

from tf_hypoperfusion.serving.server.errors import ServingError


class HeldMemory:
    """Bytes of the bodies and arrays of all requests, REST and gRPC together.

    Args:
        most_bytes: whoever would go beyond is refused.
    """

    def __init__(self, most_bytes: int):
        self._most, self._size = most_bytes, 0
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Bytes held now."""
        return self._size

    def change(self, by: int) -> None:
        """Count so many bytes more, or fewer.

        Raises:
            ServingError: RESOURCE_EXHAUSTED: they would be too many; nothing was counted.
        """
        with self._lock:
            if by > 0 and self._size + by > self._most:
                raise ServingError(
                    "RESOURCE_EXHAUSTED",
                    f"requests of more than {self._most} bytes are being answered or wait; try "
                    "again later",
                )
            self._size += by


class Share:
    """What one request holds of it; given back at its end."""

    def __init__(self, memory: HeldMemory):
        self._memory, self._size = memory, 0

    def __enter__(self) -> "Share":
        return self

    def __exit__(self, *error: object) -> None:
        self.set(0)

    def add(self, size: int) -> None:
        """Hold so many bytes more.

        Raises:
            ServingError: all requests together would hold too many.
        """
        self._memory.change(size)
        self._size += size

    def set(self, size: int) -> None:
        """Hold so many bytes in all; errors as in :meth:`add`."""
        self.add(size - self._size)
