"""A request inside a replica."""

from __future__ import annotations


class Sequence:
    """A request and how far it is.

    While it is prefilled, `computed` of its `target` tokens are cached. While it decodes, its state is what it was when
    it joined (`context` cached tokens and `generated` output tokens before iteration `joined`) and advances by one in
    every iteration. `epoch` grows whenever it leaves the decoders, so that notes about it elsewhere go stale. `onward`:
    its cache is fetched by another machine when it ends here; its blocks stay until then. The `found` tokens that it
    begins with were in the cache: they count as its own blocks.
    """

    __slots__ = (
        "computed",
        "context",
        "epoch",
        "found",
        "generated",
        "id",
        "joined",
        "last_token",
        "onward",
        "output",
        "prompt",
        "target",
    )

    def __init__(self, identity: int, prompt: int, output: int, found: int = 0) -> None:
        self.id = identity
        self.prompt = prompt
        self.output = output
        self.generated = 0
        self.target = prompt  # tokens to compute before the next one is emitted
        self.computed = self.found = found
        self.context = 0
        self.joined = -1
        self.epoch = 0
        self.last_token = 0  # of one that waits between two tokens: when its user saw the last
        self.onward = False

    def cached(self, iteration: int) -> int:
        """Cached tokens of a decoding sequence before this iteration."""
        return self.context + iteration - self.joined

    def recompute(self, kept: int = 0) -> None:
        """Its cache is gone but for `kept` tokens: the rest of the prompt and of all that it has produced is to be
        computed again. Of a decoding sequence that keeps all, that is its last token alone."""
        self.target = self.prompt + self.generated
        self.computed = kept
