"""What ranked answers are worth where many are right, as every cell of the query's type is: MRR, MAP, recall and MMRR.

Letters: Q queries; k answers returned to each, the best first.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from xtrimogene.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RetrievalScores:
    """A number for each query; their means over queries are what the names promise.

    ``mrr``: 1 / rank of the first right answer. ``map``: average precision at k, of at most k right answers.
    ``recall``: the share of all right answers that was returned. ``mmrr``: the mean of 1 / rank over all right answers,
    0 for one not returned (CoSQA+, arXiv 2406.11589). Its maximum falls with the number of right answers, so
    ``mmrr_of_best`` is divided by what right answers alone would have.
    """

    mrr: Float[np.ndarray, " Q"]
    map: Float[np.ndarray, " Q"]
    recall: Float[np.ndarray, " Q"]
    mmrr: Float[np.ndarray, " Q"]
    mmrr_of_best: Float[np.ndarray, " Q"]

    @classmethod
    def of(cls, right: Bool[np.ndarray, "Q k"], num_right: Int[np.ndarray, " Q"]) -> "RetrievalScores":
        """Judge which of the answers are right, of so many that there are for each query.

        Raises
        ------
        ConfigError
            No answers; or a query has no right answer at all, or more than there are.
        """
        if not right.size:
            raise ConfigError(
                f"{right.shape[0]} queries with {right.shape[1]} answers cannot be judged; one is needed."
            )
        if (num_right < np.maximum(right.sum(axis=1), 1)).any():
            raise ConfigError("each query needs a right answer, and at least as many as it found; leave others out.")
        number = right.shape[1]
        inverse = 1 / np.arange(1, number + 1)  # (k,)
        attainable = np.minimum(num_right, number)
        found = (right * inverse).sum(axis=1)
        precision = np.cumsum(right, axis=1) * inverse
        return cls(
            mrr=np.where(right.any(axis=1), inverse[right.argmax(axis=1)], 0.0),
            map=(precision * right).sum(axis=1) / attainable,
            recall=right.sum(axis=1) / num_right,
            mmrr=found / num_right,
            mmrr_of_best=found / np.cumsum(inverse)[attainable - 1],
        )
