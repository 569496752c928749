"""Lists what diffusers' models can do and an encrypted one cannot, each with what to do instead."""

from __future__ import annotations

from typing import NoReturn

from hecompile.errors import CompileError, Diagnostic

__all__ = ["REFUSED", "UnsupportedError", "absent"]

_HELP = {
    "weights were fixed by compiling; load the LoRA into the plain model, and compile that": """
        load_lora_weights load_lora_adapter save_lora_adapter load_attn_procs save_attn_procs add_adapter delete_adapters
        set_adapter set_adapters enable_adapters disable_adapters active_adapters fuse_lora unfuse_lora unload_lora enable_lora
        disable_lora enable_lora_hotswap""",
    "weights were fixed by compiling; load the IP-Adapter into the plain model, set its scale, and compile that": """
        load_ip_adapter set_ip_adapter_scale _load_ip_adapter_weights _load_ip_adapter_loras""",
    "FreeU cannot be compiled; leave it off": "enable_freeu",
    "attention was fixed by compiling; set it on the plain model, and compile that": """
        attn_processors set_attn_processor set_default_attn_processor fuse_qkv_projections unfuse_qkv_projections
        set_attention_slice set_attention_backend reset_attention_backend enable_forward_chunking disable_forward_chunking
        enable_xformers_memory_efficient_attention disable_xformers_memory_efficient_attention
        set_use_memory_efficient_attention_xformers set_use_npu_flash_attention enable_npu_flash_attention
        disable_npu_flash_attention set_use_xla_flash_attention enable_xla_flash_attention disable_xla_flash_attention""",
    "the client holds no weights that could be moved or cast; they are at the server": """
        enable_layerwise_casting enable_group_offload enable_parallelism dequantize compile_repeated_blocks""",
    "an encrypted model cannot be trained; train the plain model, and compile that": """
        enable_gradient_checkpointing disable_gradient_checkpointing""",
    "save it with save_pretrained, and upload that folder; the server's half belongs to the server": "push_to_hub",
    "its layers run at the server; look at those of the plain model": """
        down_blocks mid_block up_blocks conv_in conv_out conv_norm_out time_embedding time_proj""",
}

REFUSED = {name: help for help, names in _HELP.items() for name in names.split()}


class UnsupportedError(CompileError, AttributeError):
    """Raised for an attribute that diffusers' models have and an encrypted one cannot. `hasattr` then returns False, as pipelines
    expect."""


def absent(owner: object, name: str) -> NoReturn:
    """Raise `UnsupportedError` for a name of `REFUSED`."""
    raise UnsupportedError(Diagnostic(f"{name}: not possible with {type(owner).__name__}", help=REFUSED[name]))
