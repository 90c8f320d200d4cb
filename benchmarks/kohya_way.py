"""kohya's own trainer, that takes a step whenever it is told to.

Started by ``training_beside_kohya.py`` with an interpreter that has sd-scripts' requirements. It is
``train_network.py`` of the checkout, unchanged: its class is derived from, so that its loop waits
where a step begins. A step is all that passes from one such moment to the next. It answers as
``training_ways.py`` does; ``text`` is what its text encoder took of the step, in seconds by the
clock and of the processor: of Stable Diffusion 1 sd-scripts caches latents, not captions.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from training_ways import Moment, Orders, now


class TextClock:
    """Adds up what a text encoder's forward passes take."""

    def __init__(self) -> None:
        self.taken = (0.0, 0.0)
        self._start: Moment = (0.0, 0.0)
        self._watched: set[int] = set()

    def watch(self, encoder: Any) -> None:
        """Listen to an encoder, once."""
        if id(encoder) not in self._watched:
            self._watched.add(id(encoder))
            encoder.register_forward_pre_hook(self._begin)
            encoder.register_forward_hook(self._end)

    def _begin(self, *_: Any) -> None:
        self._start = now()

    def _end(self, *_: Any) -> None:
        spent = (end - start for start, end in zip(self._start, now(), strict=True))
        self.taken = tuple(a + b for a, b in zip(self.taken, spent, strict=True))  # type: ignore[assignment]


def main() -> None:
    """Train as the options of sd-scripts say, which follow the checkout's path."""
    checkout = Path(sys.argv[1])
    sys.path.insert(0, str(checkout))
    import train_network
    from library import train_util

    orders, clock = Orders("cpu"), TextClock()

    class Trainer(train_network.NetworkTrainer):  # type: ignore[misc]
        """Waits for an order where a step begins."""

        def process_batch(self, batch: Any, text_encoders: Any, *rest: Any, **named: Any) -> Any:
            facts = {"text": clock.taken}
            clock.taken = (0.0, 0.0)
            clock.watch(text_encoders[0])
            orders.next(**facts)
            return super().process_batch(batch, text_encoders, *rest, **named)

    parser = train_network.setup_parser()
    options = parser.parse_args(sys.argv[2:])
    train_util.verify_command_line_training_args(options)
    options = train_util.read_config_from_file(options, parser)
    Trainer().train(options)


if __name__ == "__main__":
    main()
