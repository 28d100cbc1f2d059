"""Live metrics in an MLflow run."""

from __future__ import annotations

from collections.abc import Mapping

from hwprof.errors import MissingLibraryError


class MLflowLogger:
    """Logs to a run.

    Args:
        run_id: the run; None = the one that is active, else a new one, which ends with the logger.

    Raises:
        MissingLibraryError: mlflow is not installed (mlflow-skinny is enough).
    """

    def __init__(self, run_id: str | None = None) -> None:
        try:
            import mlflow
        except ImportError as error:
            raise MissingLibraryError("mlflow", extra="mlflow") from error
        active = mlflow.active_run()
        self._mlflow = mlflow
        self._own = run_id is None and active is None
        self.run_id = run_id or (active or mlflow.start_run()).info.run_id

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log the metrics of a step."""
        self._mlflow.log_metrics(dict(metrics), step=step, run_id=self.run_id)

    def close(self) -> None:
        """End the run, if it was begun here."""
        if self._own:
            self._mlflow.end_run()
