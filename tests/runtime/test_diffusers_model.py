"""An encrypted model as one of diffusers: its class, what it refuses, and how it shows itself."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import FrozenDict

import hecompile
from hecompile.compiler import Compiled
from hecompile.errors import CompileError, ProtocolError
from hecompile.runtime.client import EncryptedUNet, InputError
from hecompile.runtime.diffusers_model import DiffusersModel
from hecompile.runtime.refusals import REFUSED, UnsupportedError
from tests.end_to_end.pipelines import network
from tests.networks import tiny_inputs

OWN = {"load_ip_adapter", "load_lora_weights", "set_ip_adapter_scale"}  # a pipeline's, which people look for here
OTHERS = {"enable_forward_chunking", "disable_forward_chunking"}  # of UNets for videos


@pytest.fixture
def unet(tiny: Compiled) -> EncryptedUNet:
    return tiny.load()


def test_it_is_a_model_of_diffusers(unet: EncryptedUNet) -> None:
    assert isinstance(unet, ModelMixin)


def test_its_configuration_is_of_their_kind(unet: EncryptedUNet) -> None:
    assert isinstance(unet.config, FrozenDict)


@pytest.mark.parametrize("key", ["items", "__class__", "move_to_end"])
def test_a_configuration_cannot_replace_what_a_dictionary_does(key: str) -> None:
    with pytest.raises(ProtocolError, match="key"):
        DiffusersModel({key: 1})


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_cannot_work_says_what_to_do(name: str, unet: EncryptedUNet) -> None:
    with pytest.raises(UnsupportedError, match=r"help: .{20}") as refusal:
        getattr(unet, name)
    assert name in str(refusal.value)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_pipelines_see_that_it_is_not_there(name: str, unet: EncryptedUNet) -> None:
    assert not hasattr(unet, name)
    assert name not in dir(unet)


def test_every_method_that_a_unet_has_works_or_is_refused(unet: EncryptedUNet) -> None:
    plain = network()
    methods = {name for name in dir(plain) if not name.startswith("_") and callable(getattr(type(plain), name, None))}
    own = {name for name in methods if name not in dir(torch.nn.Module)}
    known = {*REFUSED, *dir(EncryptedUNet)}
    of_configurations = {"from_config", "load_config", "save_config", "register_to_config", "extract_init_dict", "to_json_file",
                         "to_json_string", "get_config_dict", "get_aug_embed", "get_class_embed", "get_time_embed",
                         "process_encoder_hidden_states", "register_for_auto_class", "from_single_file"}  # fmt: skip
    assert own - known <= of_configurations


def test_the_names_that_are_refused_are_those_of_diffusers(unet: EncryptedUNet) -> None:
    plain = network()
    assert {name for name in REFUSED if not hasattr(plain, name)} == OWN | OTHERS


@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy])
def test_a_copy_is_refused_with_the_way_out(copied: Any, unet: EncryptedUNet) -> None:
    with pytest.raises(TypeError, match="load it again"):
        copied(unet)


def test_free_u_may_be_turned_off(unet: EncryptedUNet) -> None:
    unet.disable_freeu()


def test_a_name_that_no_model_has_is_an_ordinary_error(unet: EncryptedUNet) -> None:
    with pytest.raises(AttributeError, match="nosuch") as error:
        unet.nosuch  # noqa: B018
    assert not isinstance(error.value, UnsupportedError)


def test_a_closed_model_refuses_calls(unet: EncryptedUNet) -> None:
    unet.close()
    with pytest.raises(InputError, match="was closed"):
        unet(**tiny_inputs())


def test_a_closed_model_refuses_runs(unet: EncryptedUNet) -> None:
    unet.close()
    with pytest.raises(InputError, match="was closed"), unet.run():
        pass


def test_closing_twice_is_as_good_as_once(unet: EncryptedUNet) -> None:
    unet.close()
    unet.close()


def test_it_is_closed_at_the_end_of_a_block(tiny: Compiled) -> None:
    with tiny.load() as unet:
        unet(**tiny_inputs())
    with pytest.raises(InputError, match="was closed"):
        unet(**tiny_inputs())


@pytest.mark.parametrize("fact", ["Tiny", "strict", "bfv", "rounds", "kB up", "in this process"])
def test_a_shell_shows_what_it_is(fact: str, unet: EncryptedUNet) -> None:
    assert fact in repr(unet)
    assert "\n" not in repr(unet)


@pytest.mark.parametrize("fact", ["Tiny", "strict", "bfv", "rounds", "kB up", "in this process", "sample"])
def test_a_notebook_shows_a_table(fact: str, unet: EncryptedUNet) -> None:
    assert fact in unet._repr_html_()
    assert unet._repr_html_().startswith("<table>")


def test_a_closed_model_says_so(unet: EncryptedUNet) -> None:
    unet.close()
    assert "closed" in repr(unet)


def test_a_simulation_says_so(tiny_clear: Compiled) -> None:
    assert "nothing is encrypted" in repr(tiny_clear.load())


def test_what_compiling_gives_loads_itself(tiny: Compiled) -> None:
    assert tiny.load().manifest_name == "Tiny"


def test_what_was_not_written_cannot_be_loaded(tiny: Compiled) -> None:
    unwritten = copy.copy(tiny)
    object.__setattr__(unwritten, "artifact", None)
    with pytest.raises(CompileError, match="folder as its output"):
        unwritten.load()


@pytest.mark.parametrize("fact", ["Tiny", "strict", "bfv", "rounds"])
def test_what_compiling_gives_shows_itself_in_a_line(fact: str, tiny: Compiled) -> None:
    assert fact in repr(tiny)
    assert len(repr(tiny)) < 300
    assert fact in tiny._repr_html_()


def test_a_summary_has_a_line_for_every_pass(tiny: Compiled) -> None:
    assert [line.split()[0] for line in tiny.summary().splitlines()] == [record.name for record in tiny.passes]


def test_completion_offers_the_public_names_and_nothing_else() -> None:
    assert {name for name in dir(hecompile) if not name.startswith("_")} == set(hecompile.__all__)


def test_a_parameter_of_options_is_a_keyword_too(tmp_path: Path) -> None:
    from hecompile.options import CompileOptions
    from tests.networks import Tiny

    inputs = tiny_inputs()
    compiled = hecompile.compile(Tiny().eval(), example_inputs=inputs, backend="clear", options=CompileOptions(max_batch=3))
    assert (compiled.options.backend, compiled.options.max_batch) == ("clear", 3)


def test_an_option_that_does_not_exist_is_told() -> None:
    with pytest.raises(CompileError, match="bakend"):
        hecompile.compile("digits", bakend="clear")


def test_where_people_find_it_is_where_it_is_said_to_be() -> None:
    assert sys.modules[EncryptedUNet.__module__].EncryptedUNet is EncryptedUNet
