"""The tree agrees with RFC 6962 written down word for word, and no wrong proof is taken."""

from collections.abc import Sequence
from functools import cache
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zentra.runtime.evidence import merkle

# The eight inputs of the Certificate Transparency test suite, and the root after each number of them.
CT_LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
CT_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]

SIZE_MAX = 600
DATA = [b"leaf %d" % place for place in range(SIZE_MAX)]
LEAVES = [merkle.leaf_hash(data) for data in DATA]


@cache
def naive_root(start: int, end: int) -> bytes:
    """MTH of RFC 6962, section 2.1."""
    if start == end:
        return sha256(b"").digest()
    if end - start == 1:
        return sha256(b"\x00" + DATA[start]).digest()
    k = largest_power_of_two_below(end - start)
    return sha256(b"\x01" + naive_root(start, start + k) + naive_root(start + k, end)).digest()


def naive_path(m: int, start: int, end: int) -> list[bytes]:
    """PATH of RFC 6962, section 2.1.1."""
    if end - start == 1:
        return []
    k = largest_power_of_two_below(end - start)
    if m < k:
        return [*naive_path(m, start, start + k), naive_root(start + k, end)]
    return [*naive_path(m - k, start + k, end), naive_root(start, start + k)]


def naive_subproof(m: int, start: int, end: int, whole: bool) -> list[bytes]:
    """SUBPROOF of RFC 6962, section 2.1.2."""
    if m == end - start:
        return [] if whole else [naive_root(start, end)]
    k = largest_power_of_two_below(end - start)
    if m <= k:
        return [*naive_subproof(m, start, start + k, whole), naive_root(start + k, end)]
    return [*naive_subproof(m - k, start + k, end, False), naive_root(start, start + k)]


def largest_power_of_two_below(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


class Store:
    """Leaf hashes and tiles as a log keeps them; hands out only what was declared beforehand."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        _, tiles = merkle.Frontier().append(leaves)
        self.hashes = {(0, place): hashed for place, hashed in enumerate(leaves)}
        self.hashes |= {(tile.level, tile.index): tile.hash for tile in tiles}
        self.loaded: dict[tuple[int, int], bytes] = {}

    def load(self, ranges: Sequence[merkle.Range]) -> None:
        self.loaded = {
            (level, place): self.hashes[level, place]
            for level, start, length in ranges
            for place in range(start, start + length)
        }

    def fetch(self, level: int, start: int, count: int) -> list[bytes]:
        return [self.loaded[level, place] for place in range(start, start + count)]


STORE = Store(LEAVES)


def proof(index: int, size: int) -> list[bytes]:
    STORE.load(merkle.proof_ranges(index, size))
    return merkle.inclusion_proof(index, size, STORE.fetch)


def consistency(old_size: int, size: int) -> list[bytes]:
    STORE.load(merkle.consistency_ranges(old_size, size))
    return merkle.consistency_proof(old_size, size, STORE.fetch)


@st.composite
def a_leaf(draw: st.DrawFn) -> tuple[int, int]:
    size = draw(st.integers(1, SIZE_MAX))
    return draw(st.integers(0, size - 1)), size


@pytest.mark.parametrize(("size", "root"), list(enumerate(CT_ROOTS)))
def test_the_roots_are_the_published_ones(size: int, root: str) -> None:
    frontier, _ = merkle.Frontier().append([merkle.leaf_hash(data) for data in CT_LEAVES[:size]])
    assert frontier.root().hex() == root


def test_the_root_of_nothing_is_the_hash_of_nothing() -> None:
    assert merkle.Frontier().root() == merkle.EMPTY_ROOT == sha256(b"").digest()


def test_every_root_up_to_the_limit_is_that_of_the_naive_tree() -> None:
    frontier = merkle.Frontier()
    for size, leaf in enumerate(LEAVES, 1):
        frontier, _ = frontier.append([leaf])
        assert frontier.size == size
        assert frontier.root() == naive_root(0, size), size


@given(st.lists(st.integers(0, 70), max_size=12))
def test_how_leaves_are_batched_does_not_matter(batches: list[int]) -> None:
    leaves = LEAVES[: min(sum(batches), SIZE_MAX)]
    frontier, done = merkle.Frontier(), 0
    tiles: tuple[merkle.Tile, ...] = ()
    for count in batches:
        frontier, completed = frontier.append(leaves[done : done + count])
        tiles, done = tiles + completed, min(done + count, len(leaves))
    assert (frontier, tiles) == merkle.Frontier().append(leaves)


def test_tiles_are_the_complete_subtrees_at_every_eighth_level() -> None:
    leaves = [b"%032d" % place for place in range(2 * 65_536 + 255)]
    frontier, tiles = merkle.Frontier().append(leaves)
    assert [(tile.level, tile.index) for tile in tiles if tile.level > 8] == [(16, 0), (16, 1)]
    assert [tile.index for tile in tiles if tile.level == 8] == list(range(512))
    assert frontier.hashes[0] == merkle.node_hash(*(tile.hash for tile in tiles if tile.level == 16))
    small, _ = merkle.Frontier().append(leaves[256:512])
    assert small.hashes == (tiles[1].hash,)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 255, 256, 257, 511, 512, 513, 600])
def test_every_leaf_has_the_naive_path_and_it_verifies(size: int) -> None:
    root = naive_root(0, size)
    for index in range(size):
        path = proof(index, size)
        assert path == naive_path(index, 0, size)
        assert merkle.verify_inclusion(LEAVES[index], index, size, path, root)


@given(a_leaf())
def test_a_path_proves_its_own_leaf_at_its_own_place_only(leaf: tuple[int, int]) -> None:
    index, size = leaf
    path, root = proof(index, size), naive_root(0, size)
    assert path == naive_path(index, 0, size)
    assert merkle.verify_inclusion(LEAVES[index], index, size, path, root)
    assert not any(
        merkle.verify_inclusion(LEAVES[index], other, size, path, root)
        for other in range(-1, size + 1)
        if other != index
    )
    assert not merkle.verify_inclusion(LEAVES[index - 1], index, size, path, root) or size == 1
    assert not merkle.verify_inclusion(LEAVES[index], index, size, [*path, root], root)
    assert not merkle.verify_inclusion(LEAVES[index], index, size, path, merkle.EMPTY_ROOT)
    for place in range(len(path)):
        assert not merkle.verify_inclusion(LEAVES[index], index, size, path[:place] + path[place + 1 :], root)
        wrong = [*path[:place], bytes(32), *path[place + 1 :]]
        assert not merkle.verify_inclusion(LEAVES[index], index, size, wrong, root)


@given(st.integers(0, SIZE_MAX), st.integers(0, SIZE_MAX))
def test_a_longer_log_is_shown_to_begin_with_the_shorter(first: int, second: int) -> None:
    old_size, size = sorted((first, second))
    old_root, root = naive_root(0, old_size), naive_root(0, size)
    path = consistency(old_size, size)
    assert path == (naive_subproof(old_size, 0, size, True) if old_size else [])
    assert merkle.verify_consistency(old_size, old_root, size, root, path)
    assert not merkle.verify_consistency(old_size, bytes(32), size, root, path)
    assert not merkle.verify_consistency(old_size, old_root, size, bytes(32), path) or old_size == 0
    assert not merkle.verify_consistency(old_size, old_root, size, root, [*path, root])
    assert not path or not merkle.verify_consistency(old_size, old_root, size, root, path[:-1])
    for place in range(len(path)):
        wrong = [*path[:place], bytes(32), *path[place + 1 :]]
        assert not merkle.verify_consistency(old_size, old_root, size, root, wrong)


def test_a_rewritten_beginning_is_not_consistent() -> None:
    rewritten = [LEAVES[1], *LEAVES[1:]]
    store = Store(rewritten)
    store.load(merkle.consistency_ranges(100, 300))
    path = merkle.consistency_proof(100, 300, store.fetch)
    root = merkle.Frontier().append(rewritten[:300])[0].root()
    assert not merkle.verify_consistency(100, naive_root(0, 100), 300, root, path)


@given(st.integers(1, 2**40).flatmap(lambda size: st.tuples(st.integers(0, size - 1), st.just(size))))
def test_a_proof_reads_two_tiles_a_level_at_most(leaf: tuple[int, int]) -> None:
    index, size = leaf
    ranges = merkle.proof_ranges(index, size)
    for wanted in ranges:
        assert wanted.level % merkle.TILE_LEVELS == 0
        assert (wanted.start + wanted.length) << wanted.level <= size
        assert wanted.start + wanted.length <= index >> wanted.level or index >> wanted.level < wanted.start
    for level in {wanted.level for wanted in ranges}:
        at_level = [wanted for wanted in ranges if wanted.level == level]
        assert len(at_level) <= 3
        assert sum(wanted.length for wanted in at_level) <= 2 * 255


@pytest.mark.parametrize(("index", "size"), [(0, 0), (1, 1), (-1, 4), (4, 4)])
def test_a_leaf_that_is_not_there_has_no_proof(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="has no leaf"):
        merkle.proof_ranges(index, size)


@pytest.mark.parametrize(("old_size", "size"), [(-1, 4), (5, 4)])
def test_a_log_has_no_earlier_state_that_is_longer(old_size: int, size: int) -> None:
    with pytest.raises(ValueError, match="no earlier state"):
        merkle.consistency_ranges(old_size, size)
    assert not merkle.verify_consistency(old_size, bytes(32), size, bytes(32), [])


def test_a_short_read_is_an_error_and_not_a_wrong_proof() -> None:
    with pytest.raises(ValueError, match="were loaded"):
        merkle.inclusion_proof(0, 8, lambda level, start, count: [bytes(32)] * (count - 1))


def test_a_frontier_has_one_hash_for_each_set_bit_of_its_size() -> None:
    with pytest.raises(ValueError, match="no frontier"):
        merkle.Frontier(3, (bytes(32),))
