"""Keeps OpenTelemetry's exporters from logging every export that fails: we log the first."""

from __future__ import annotations

import logging
import threading
from typing import Final

EXPORTERS: Final = "opentelemetry.exporter.otlp.proto"


class QuietThread(logging.Filter):
    """Only what one thread logs is held back: someone else in the process may use exporters."""

    LOGGERS: Final = (
        f"{EXPORTERS}.http.metric_exporter",
        f"{EXPORTERS}.grpc.exporter",
    )

    def __init__(self) -> None:
        super().__init__()
        self.last = ""
        self._thread_id: int | None = None

    def begin(self) -> None:
        """From now on, of the thread that calls this."""
        self.last = ""
        if self._thread_id is None:
            self._thread_id = threading.get_ident()
            for name in self.LOGGERS:
                logging.getLogger(name).addFilter(self)

    def close(self) -> None:
        for name in self.LOGGERS:
            logging.getLogger(name).removeFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        if record.thread != self._thread_id:
            return True
        self.last = record.getMessage()
        return False
