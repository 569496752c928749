"""Of `benchmarks/sd_unet.py`."""

from __future__ import annotations

from typing import Any

__all__ = ["link_table", "sd_unet_table"]


def sd_unet_table(figures: dict[str, Any]) -> str:
    """A first call, one without a cache, and later calls, beside the model alone; then what holds for all of them."""
    calls, predicted = figures["client_cpu"], figures["prediction"]
    columns = {"first call": calls["first"], "later calls": calls["later"], "a call alone": calls["fresh"]}
    rows = [
        ("wall s", [f"{call['wall_s']:.1f}" for call in columns.values()], f"{figures['plaintext_wall_s']:.1f}"),
        ("client's CPU s", [f"{call['client_cpu_s']:.1f}" for call in columns.values()], f"{figures['plaintext_cpu_s']:.1f}"),
        ("of these: encrypting", [f"{call['encrypt_s']:.1f}" for call in columns.values()], ""),
        ("decrypting", [f"{call['decrypt_s']:.1f}" for call in columns.values()], ""),
        ("HTTP", [f"{call['send_s']:.1f}" for call in columns.values()], ""),
        ("norms, activations, attention", [f"{call['local_s']:.1f}" for call in columns.values()], ""),
        ("**offload ratio**", [f"**{call['client_cpu_s'] / figures['plaintext_cpu_s']:.2f}**" for call in columns.values()], "1"),
        ("server's CPU s", [f"{call['server_cpu_s']:.1f}" for call in columns.values()], "0"),
        ("GB up", [f"{call['bytes_up'] / 1e9:.3f}" for call in columns.values()], "0"),
        ("GB down", [f"{call['bytes_down'] / 1e9:.3f}" for call in columns.values()], "0"),
        ("client's peak MiB", [f"{call['client_peak_mib']:,.0f}" for call in columns.values()], ""),
        ("server's peak MiB", [f"{call['server_peak_mib']:,.0f}" for call in columns.values()], "0"),
    ]
    text = f"| | {' | '.join(columns)} | float32, alone |\n|---|{'---:|' * (len(columns) + 1)}\n"
    text += "".join(f"| {name} | {' | '.join(cells)} | {alone} |\n" for name, cells, alone in rows)
    shares = [f"{predicted[call][key]['ratio']:.2f}" for key in ("client_cpu_s", "server_cpu_s") for call in ("first", "later")]
    bytes_ = max((predicted[call]["bytes"]["ratio"] for call in ("first", "later")), key=lambda ratio: abs(ratio - 1))
    cpu = figures["machine"]
    equal = "yes" if figures["bit_equal_to_clear"] else "no"
    sentences = (
        f"{figures['rounds']} rounds a call, {figures['security_bits']} bits of security, no keys at the server.",
        f"Equal to `clear` bit for bit: {equal}. PSNR against float32: {figures['psnr_db']:.1f} dB.",
        f"A batch of two takes {figures['batch_of_two']:.2f} times a first call, "
        f"{figures['batch_of_two_later']:.2f} times a later.",
        *(
            [f"Compiling: {figures['compile_s']:.0f} s, {figures['compile_peak_mib']:,.0f} MiB at most."]
            if figures["compile_s"]
            else []
        ),
        f"Measured over predicted: client {shares[0]} and {shares[1]}, server {shares[2]} and {shares[3]}, bytes {bytes_:.4f},",
        f"the server's memory {predicted['server_peak_mib']['ratio']:.2f}.",
        f"{cpu['cpu']}, {cpu['cores']} cores, commit {cpu['commit']}; medians of {figures['runs']} runs.",
    )
    return text + "\n" + "\n".join(sentences) + "\n"


def link_table(figures: dict[str, Any]) -> str:
    """The same over a link, beside the prediction; or why there is none."""
    over = figures.get("over_link", {"link": "no link", "reason": "not measured"})
    if "reason" in over:
        return f"{over['link']}: {over['reason']}.\n"
    return (
        f"| {over['link']} | measured wall s | predicted |\n|---|---:|---:|\n"
        f"| first call | {over['wall_s']:.1f} | {over['predicted_wall_s']:.1f} |\n"
        f"| later calls | {over['wall_later_s']:.1f} | {over['predicted_wall_later_s']:.1f} |\n"
    )
