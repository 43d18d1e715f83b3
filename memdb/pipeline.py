"""Pipelines: many writes without a wait for each.

Invariant: nothing that was sent is left unanswered at the end of the block, however it ends.
"""

from types import TracebackType
from typing import Any

from memdb.errors import PipelineError
from memdb.shm import _kernel

__all__ = ["Pipeline"]


class Pipeline(_kernel.PipelineHandle):
    """Writes that go out at once, each as a commit of its own, from ``db.pipeline()``; the end of the block
    waits for all.

    It is no transaction: each write is seen when it is done, and one that fails does not keep the others
    back. Two writes of one key are done in the order of the calls; of different keys the order can change if
    the writer dies meanwhile. For one thread at a time.

    >>> with db.pipeline() as p:
    ...     for n in range(10_000):
    ...         p.set(n, n * n)
    """

    def __enter__(self) -> "Pipeline":
        self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self._inherited():
            return  # what is under way is the parent's
        if self._finish() and error is None:
            raise self._error()

    def _error(self) -> PipelineError:
        """What the block raises: how many calls failed, and the first error, which is also the cause."""
        failed = [one for one in self.results if isinstance(one, BaseException)]
        raised = PipelineError(
            f"{len(failed)} of {len(self.results)} writes of the pipeline failed, the first with "
            f"{type(failed[0]).__name__}: {failed[0]}; .results has what each call gave, in order",
            results=self.results,
        )
        raised.__cause__ = failed[0]
        return raised

    def __reduce__(self) -> Any:
        raise TypeError(
            "a pipeline belongs to the thread that made it and can't be pickled; pass the database instead"
        )
