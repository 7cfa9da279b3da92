"""A few large things that are kept in memory while they are used: the last ones, up to a limit.

    pictures = Recent(make, size, limit)
    pictures.get("a")               # made once, and again only after it was dropped

What somebody still uses is never made twice, even after it was dropped from the list.
"""

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable


class Recent:
    """Things by their key.

    Args:
        make: from a key to the thing; may raise.
        size: from a thing to its size, such as its number of pixels.
        limit: of the sum of sizes; the thing used last is always kept.
    """

    def __init__(self, make: Callable, size: Callable, limit: float) -> None:
        self.make, self.size, self.limit = make, size, limit
        self.lock = threading.Lock()
        self.making = threading.Lock()
        self.strong: OrderedDict = OrderedDict()
        self.weak: weakref.WeakValueDictionary = weakref.WeakValueDictionary()

    def get(self, key):
        """The thing of a key."""
        thing = self.look(key)
        if thing is None:
            with self.making:  # one at a time: each takes much memory
                thing = self.look(key)
                if thing is None:
                    thing = self.make(key)
                    self.keep(key, thing)
        return thing

    def look(self, key):
        """The thing of a key where it is at hand, else None."""
        with self.lock:
            thing = self.strong.get(key, None) or self.weak.get(key)
            if thing is not None:
                self.strong[key] = thing
                self.strong.move_to_end(key)
            return thing

    def keep(self, key, thing) -> None:
        """Put a thing on the list and drop the oldest ones beyond the limit."""
        with self.lock:
            self.strong[key] = self.weak[key] = thing
            self.strong.move_to_end(key)
            while len(self.strong) > 1 and sum(map(self.size, self.strong.values())) > self.limit:
                self.strong.popitem(last=False)

    def drop(self, key) -> None:
        """Forget a thing: it is no longer true."""
        with self.lock:
            self.strong.pop(key, None)
            self.weak.pop(key, None)
