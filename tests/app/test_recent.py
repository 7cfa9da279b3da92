"""What is used last stays in memory; what somebody still holds is never made twice."""

import gc
import threading

from nuclei.app.recent import Recent


class Thing:
    def __init__(self, key):
        self.key = key


def recent(limit):
    made = []

    def make(key):
        made.append(key)
        return Thing(key)

    return Recent(make, lambda thing: 10, limit), made


def test_the_oldest_are_dropped_beyond_the_limit():
    things, made = recent(limit=20)
    for key in "abac":
        things.get(key)
    gc.collect()
    assert made == ["a", "b", "c"]
    things.get("a")
    assert made == ["a", "b", "c"]  # used later than b
    things.get("b")
    assert made == ["a", "b", "c", "b"]


def test_a_thing_larger_than_the_limit_is_kept_while_it_is_the_last():
    things, made = recent(limit=1)
    assert things.get("a") is things.get("a") and made == ["a"]


def test_what_is_held_is_not_made_twice():
    things, made = recent(limit=1)
    held = things.get("a")
    things.get("b")
    assert things.get("a") is held and made == ["a", "b"]


def test_threads_that_ask_at_once_get_one_thing():
    things, made = recent(limit=1)
    got = []
    threads = [threading.Thread(target=lambda: got.append(things.get("a"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == ["a"] and len(set(map(id, got))) == 1


def test_what_is_dropped_is_made_anew():
    things, made = recent(limit=100)
    held = things.get("a")
    things.drop("a")
    assert things.get("a") is not held and made == ["a", "a"]
