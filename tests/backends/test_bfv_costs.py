"""What a layer costs: bytes of shared seeds, the form that a server takes, and prices that requests of layers tell."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from hecompile import _core
from hecompile.backends.bfv.costs import (
    DECRYPT_A,
    ENCRYPT_A,
    MOST_KEPT,
    Traffic,
    Work,
    client_work,
    fresh_bytes,
    layer_cost,
    server_work,
    traffic,
)  # fmt: skip
from hecompile.backends.bfv.forms import KEPT_BYTES, PRICES, FormName, form_operations, product_form
from hecompile.backends.bfv.measure import CLIENT, SERVER, layer_works, prices_of
from hecompile.backends.bfv.memory import in_lanes, ordered_bytes, working_bytes
from hecompile.backends.bfv.packing import Layout, Packing
from hecompile.backends.bfv.rings import prime
from hecompile.ir.linear import Geometry, conv2d, linear
from hecompile.machine import NEVER_ZERO, Machine


def conv(channels: int, outputs: int, size: int) -> Geometry:
    return conv2d(np.ones((outputs, channels, 3, 3)), (size, size), (1, 1), (1, 1), (1, 1), 1)[0]


def whole(geometry: Geometry, elements: int, p_in: int = 1, p_out: int = 1) -> Layout:
    """Every picture a block of its own."""
    return Layout(geometry, Packing(2048, elements, 1, geometry.grid[0], p_in, p_out))


@pytest.mark.parametrize(("elements", "groups"), [(1, 1), (64, 1), (65, 2), (129, 3)])
def test_blocks_of_a_seed_share_it_and_the_answers_a(elements: int, groups: int) -> None:
    layout = whole(conv(4, 6, 8), elements)
    sent = traffic(layout, 48, (8, 16))
    assert sent.up_bytes == elements * 4 * 2048 * 6 + 32 * groups
    assert sent.down_bytes == elements * 6 * 64 * 5 + groups * 6 * 2048 * 4
    assert client_work(layout) == Work(
        encrypts=4 * 2048 * (elements + ENCRYPT_A * groups),
        decrypts=6 * 2048 * (elements + DECRYPT_A * groups),
        gathered=6 * 64 * elements,
        client_layers=3,
    )


def test_wide_layers_of_small_pictures_are_multiplied_in_ntt_form() -> None:
    """Above some sixty products of taps, channels and outputs that meet in one; narrow layers keep their transformed weights."""
    cases = [(1280, 8, 20, 1, "ntt"), (640, 32, 1, 1, "limbs"), (320, 32, 1, 1, "limbs"), (16, 8, 6, 4, "ntt")]
    for channels, size, p_in, p_out, name in cases:
        form = product_form(whole(conv(channels, channels, size), 1, p_in, p_out), 48)
        assert form.name == name
        assert (form.ntt_s < form.limbs_s) == (name == "ntt")
    tokens = linear(np.ones((1280, 1280)), 256)[0]
    assert product_form(Layout(tokens, Packing(2048, 1, 1, 256, 8, 1)), 48).name == "limbs"


def test_a_server_with_tiles_takes_limbs_where_the_prediction_has_the_transform() -> None:
    """Both give the same words, so the server need not agree; on the smallest pictures the transform wins with tiles too."""
    middle, small = whole(conv(1280, 1280, 16), 2, 3, 2), whole(conv(1280, 1280, 8), 1, 6, 4)
    assert product_form(middle, 48).name == product_form(middle, 48, kernel="avx512").name == "ntt"
    assert product_form(middle, 48, kernel="amx").name == "limbs"
    assert product_form(small, 48, kernel="amx").name == "ntt"


def test_operations_of_limbs_are_counted_in_the_kernels_steps() -> None:
    layout = whole(conv(320, 320, 32), 2)
    name, operations = form_operations(layout, 48)
    assert name == "limbs"
    assert layout.channel_stride == 33 * 33
    coefficients = 2048 + 2 * 18 * 64  # all of a; of b eighteen strips for each of two blocks
    assert operations.macs == 324 * 320 * 9 * 6 * coefficients
    assert operations.words == 320 * 2048 * (2 + 3) + 2 * 320 * coefficients
    assert operations.ntts == 320 * 2048
    assert form_operations(layout, 49)[1].macs == operations.macs * 7 / 6
    priced = Machine(**asdict(PRICES), server_layer_us=100.0)
    assert server_work(layout, 48).seconds(priced) == pytest.approx(operations.seconds(PRICES) + 1e-4)


def test_weights_in_ntt_form_are_kept_up_to_a_bound() -> None:
    kept, anew = whole(conv(96, 64, 8), 1, 6, 4), whole(conv(102, 64, 8), 1, 6, 4)
    assert 8 * kept.uploads * kept.answers * 2048 == KEPT_BYTES < 8 * anew.uploads * anew.answers * 2048
    for layout, transformed in ((kept, 0), (anew, 17 * 16 * 2048)):
        name, operations = form_operations(layout, 48)
        assert name == "ntt"
        assert operations.ntts == transformed + (layout.uploads + 2 * layout.answers) * 2048
        assert operations.pairs == 2 * layout.uploads * layout.answers * 2048


def test_a_second_block_costs_less_than_the_first() -> None:
    one, two = (layer_cost(whole(conv(320, 320, 16), count), 48, (8, 8), Machine()) for count in (1, 2))
    assert one.server_s < two.server_s < 1.5 * one.server_s
    assert one.down_bytes < two.down_bytes < 1.5 * one.down_bytes
    assert one.peak_mib < two.peak_mib


def test_in_ntt_form_whole_lanes_are_counted() -> None:
    """Three answers take as long as eight; weights that are not kept are transformed, for whole lanes too."""
    layout, wide = whole(conv(16, 12, 8), 2, 6, 4), whole(conv(102, 64, 8), 1, 6, 4)
    assert form_operations(layout, 48)[0] == form_operations(wide, 48)[0] == "ntt"
    assert (layout.uploads, layout.answers, layout.blocks) == (3, 3, 2)
    work = server_work(layout, 48)
    assert work.ntts == 2048 * (8 + 8 * 3)  # six uploads; answers of two blocks and of `a`
    assert work.pairs == 2048 * 8 * 3 * 3
    assert work.weights == 0
    assert server_work(wide, 48).weights == 2048 * 16 * 17


def test_replies_that_malloc_gives_back_cost_fresh_memory() -> None:
    assert fresh_bytes(Traffic(1, 1, 1, MOST_KEPT)) == 0
    assert fresh_bytes(Traffic(1, 1, 1, MOST_KEPT + 1)) == 2 * MOST_KEPT + 2


@pytest.mark.parametrize(
    ("layout", "form"),
    [
        (whole(conv(320, 320, 32), 1), "limbs"),
        (whole(conv(320, 320, 32), 2), "limbs"),
        (whole(linear(np.ones((512, 256)), 64)[0], 1, 8, 4), "limbs"),
        (whole(conv(64, 64, 8), 3, 6, 4), "ntt"),
        (whole(conv(1280, 128, 8), 1, 6, 4), "ntt"),
        (whole(conv(640, 640, 8), 1, 25, 1), "ntt"),
    ],
)
def test_memory_is_what_the_core_allocates(layout: Layout, form: FormName) -> None:
    """Of weights all but a header and offsets, of the rest all but some scratch."""
    geometry, packing, threads = layout.geometry, layout.packing, _core.threads()
    picture, result = geometry.picture, (geometry.rows, *geometry.grid)
    packed = (packing.images_per_poly, packing.band_rows, packing.p_in, packing.p_out)
    core = _core.make_layout(
        2048, prime(48, 26), 26, packing.elements, picture, result, np.array(geometry.taps, np.int32), packed, (0, 0)
    )
    weights = np.ones((geometry.rows, picture[0], len(geometry.taps)), np.int8)
    assert product_form(layout, 48).name == form
    kernel = _core.kernel()
    _core.set_threads(2)
    try:
        _core.use_kernel(next(name for name in _core.kernels() if name != "amx"))  # which fills up weights to its tiles
        ordered = _core.make_weights(core, weights, form == "ntt", KEPT_BYTES).bytes
        assert 0 <= ordered - ordered_bytes(layout, form) < 8192
        assert working_bytes(layout, 48, form) == pytest.approx(_core.working_bytes(core, form == "ntt"), rel=0.06)
    finally:
        _core.use_kernel(kernel)
        _core.set_threads(threads)


def test_a_layer_takes_what_it_holds_at_its_fullest() -> None:
    layout = whole(conv(1280, 1280, 8), 1, 6, 4)
    sent, cost = traffic(layout, 48, (8, 8)), layer_cost(layout, 48, (8, 8), Machine())
    assert in_lanes(layout.answers) * layout.uploads * 2048 * 8 > KEPT_BYTES  # int8 weights stay
    assert cost.peak_mib * 2**20 > 1280 * 1280 * 9 + 8 * layout.uploads * 2048 * 2 + sent.up_bytes + sent.down_bytes


def test_the_layers_that_are_measured_tell_every_price() -> None:
    """Prices come back from exact times, and nearly so from times that are a few per cent off."""
    works, rng = layer_works(), np.random.default_rng(0)
    server, client = [work[0] for work in works], [work[way] for way in (1, 2) for work in works]
    machine = Machine(
        mac_ps=4.0, word_ns=2.5, ntt_ns=8.0, pair_ns=0.5, weight_ns=1.2, fresh_memory_ns=0.9, server_layer_us=80.0,
        encrypt_ns=5.0, decrypt_ns=2.0, gather_ns=4.0, client_layer_us=90.0,
    )  # fmt: skip
    for name, price in (
        prices_of(server, [work.seconds(machine) for work in server], SERVER)
        | prices_of(client, [work.seconds(machine) for work in client], CLIENT)
    ).items():
        assert price == pytest.approx(getattr(machine, name), rel=1e-3)
    noisy = [work.seconds(machine) * rng.normal(1, 0.05) for work in server]
    prices = prices_of(server, noisy, SERVER)
    assert prices["mac_ps"] == pytest.approx(4.0, rel=0.2)
    assert set(NEVER_ZERO) & set(prices) == {"mac_ps"}
