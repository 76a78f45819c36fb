"""Look-up in a far store of keys and values by nearest neighbour (kNN-LM, RETRO)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from simulator.model.ffn.fields import Choice, Count, Tensor
from simulator.model.ffn.kind import FFN, Visit
from simulator.model.ffn.look_up import brought_together, look_up
from simulator.model.ffn.product_key_memory import KEYS
from simulator.model.operation import Matmul, Operation, Vector
from simulator.model.parallelism import ACTIVATION_BYTES, ONE_CHIP, Parallelism, all_reduce
from simulator.model.popularity import UNIFORM


@dataclass(frozen=True)
class KvRetrieval(FFN):
    """Every `interval` tokens a query reads `lists` lists of an inverted file, `scanned` codes in all, and then its
    `neighbours` values of `value_width`: two rounds that wait for each other (list, then rows).

    kNN-LM: one query a token, the layer's input is the key. RETRO: one for a chunk of 64 tokens, whose text is known
    (`address: token`); `attended` tokens a neighbour pass a cross-attention of 4 projections.
    The number of scanned codes sets the recall; 8 to 64 lists are usual. Sources: Khandelwal 2020, Borgeaud 2022.
    """

    kind: ClassVar[str] = "kv_retrieval"
    beside: ClassVar[bool] = True
    stored: ClassVar[str] = "store"

    entries: Annotated[Count, Field(description="Keys with a value in the store.")]
    value_width: Annotated[Count, Field(description="Values of an entry.")]
    neighbours: Count = 8
    interval: Annotated[Count, Field(description="Tokens for each query: 1 in kNN-LM, 64 in RETRO.")] = 1
    code_bytes: Annotated[Count, Field(description="Of a quantised key.")] = 64
    lists: Annotated[Count, Field(description="Lists of the inverted file that a query reads.")] = 32
    scanned: Annotated[Count, Field(description="Codes that a query compares.")] = 8192
    attended: Annotated[int, Field(ge=0, description="Tokens of a neighbour that are attended to; 0: none.")] = 0
    address: Literal["token", "layer"] = "layer"
    popularity: Choice = KEYS
    tensor: Tensor = "store"

    def __post_init__(self) -> None:
        if self.scanned > self.entries:
            raise ValueError(f"scanned {self.scanned} is more than the {self.entries} entries; write fewer")
        if self.lists > self.scanned:
            raise ValueError(f"{self.lists} lists hold only {self.scanned} codes; write fewer lists")

    @property
    def address_known(self) -> str:
        """'token' where the query is the text of past tokens."""
        return self.address

    def parameters(self, hidden: int, parallelism: Parallelism = ONE_CHIP) -> dict[str, float]:
        """Values and codes over tp*dp; the cross-attention over tp. The store holds data, not trained parameters, but
        takes memory as they do."""
        chips = parallelism.tp * parallelism.dp
        counts = {self.tensor: self.memory_parameters(hidden) / chips}
        counts["codes"] = float(self.entries) * self.code_bytes / chips
        if self.attended:
            counts["ffn"] = 2.0 * hidden * (hidden + self.value_width) / parallelism.tp
        return counts

    def active_parameters(self, hidden: int) -> float:
        """The neighbours' values, their codes, the cross-attention."""
        read = (self.neighbours * self.value_width + self.scanned * self.code_bytes) / self.interval
        return read + self.parameters(hidden).get("ffn", 0.0)

    def memory_parameters(self, hidden: int) -> float:
        """The values."""
        return float(self.entries) * self.value_width

    def operations(self, visit: Visit) -> list[Operation]:
        """Codes, their comparison, values, their exchange; interpolation or cross-attention."""
        hidden, tokens, tp, repeat = visit.hidden, visit.tokens, visit.parallelism.tp, visit.repeat
        queries = 1.0 / self.interval
        listed = self.scanned / self.lists
        codes = look_up(
            "store codes",
            "codes",
            visit,
            per_token=self.lists * queries,
            tables=1,
            rows=max(1.0, self.entries / listed),
            width=listed * self.code_bytes,
            popularity=UNIFORM,
            address_known=self.address,
        )
        compared = tokens * (self.scanned * queries * self.code_bytes / tp)
        values = look_up(
            "store values",
            self.tensor,
            visit,
            per_token=self.neighbours * queries,
            tables=1,
            rows=self.entries,
            width=self.value_width,
            popularity=self.popularity,
            address_known=self.address,
        )
        read = self.neighbours * self.value_width * queries
        found: list[Operation] = [
            codes,
            Vector("store distances", compared, compared, repeat),
            values,
            *brought_together("store values", visit, read),
        ]
        if not self.attended:
            return [*found, Vector("interpolation", tokens * (2.0 * read), tokens * (read * ACTIVATION_BYTES), repeat)]
        stored, attended = visit.precision.format_of("ffn"), tokens * (self.neighbours * self.attended * queries)
        pairs = tokens * (self.neighbours * self.attended * 4.0 * hidden / tp)
        return [
            *found,
            Matmul("retrieval queries", tokens, hidden / tp, hidden, stored, "ffn", 1.0, repeat),
            Matmul("retrieval keys", attended, 2 * hidden / tp, self.value_width, stored, "ffn", 1.0, repeat),
            Vector("retrieval attention", pairs, attended * (2 * hidden * ACTIVATION_BYTES / tp), repeat),
            Matmul("retrieval output", tokens, hidden, hidden / tp, stored, "ffn", 1.0, repeat),
            *all_reduce("retrieval all-reduce", tokens, hidden, tp, repeat),
        ]

    def shape(self) -> str:
        """Such as "store of 100000000 x 4096, 8 a query"."""
        return f"store of {self.entries} x {self.value_width}, {self.neighbours} a query"
