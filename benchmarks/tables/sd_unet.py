"""Of `benchmarks/sd_unet.py`."""

from __future__ import annotations

from typing import Any

__all__ = ["link_table", "sd_unet_table"]


def sd_unet_table(found: dict[str, Any]) -> str:
    """A first call, one without a cache, and later calls, beside the model alone; then what holds for all of them."""
    calls, predicted = found["client_cpu"], found["prediction"]
    columns = {"first call": calls["first"], "later calls": calls["later"], "a call alone": calls["fresh"]}
    rows = [
        ("wall s", [f"{each['wall_s']:.1f}" for each in columns.values()], f"{found['plaintext_wall_s']:.1f}"),
        ("client's CPU s", [f"{each['client_cpu_s']:.1f}" for each in columns.values()], f"{found['plaintext_cpu_s']:.1f}"),
        ("of these: encrypting", [f"{each['encrypt_s']:.1f}" for each in columns.values()], ""),
        ("decrypting", [f"{each['decrypt_s']:.1f}" for each in columns.values()], ""),
        ("HTTP", [f"{each['send_s']:.1f}" for each in columns.values()], ""),
        ("norms, activations, attention", [f"{each['local_s']:.1f}" for each in columns.values()], ""),
        ("**offload ratio**", [f"**{each['client_cpu_s'] / found['plaintext_cpu_s']:.2f}**" for each in columns.values()], "1"),
        ("server's CPU s", [f"{each['server_cpu_s']:.1f}" for each in columns.values()], "0"),
        ("GB up", [f"{each['bytes_up'] / 1e9:.3f}" for each in columns.values()], "0"),
        ("GB down", [f"{each['bytes_down'] / 1e9:.3f}" for each in columns.values()], "0"),
        ("client's peak MiB", [f"{each['client_peak_mib']:,.0f}" for each in columns.values()], ""),
        ("server's peak MiB", [f"{each['server_peak_mib']:,.0f}" for each in columns.values()], "0"),
    ]
    text = f"| | {' | '.join(columns)} | float32, alone |\n|---|{'---:|' * (len(columns) + 1)}\n"
    text += "".join(f"| {name} | {' | '.join(cells)} | {alone} |\n" for name, cells, alone in rows)
    shares = [f"{predicted[call][key]['ratio']:.2f}" for key in ("client_cpu_s", "server_cpu_s") for call in ("first", "later")]
    bytes_ = max((predicted[call]["bytes"]["ratio"] for call in ("first", "later")), key=lambda ratio: abs(ratio - 1))
    cpu = found["machine"]
    equal = "yes" if found["bit_equal_to_clear"] else "no"
    sentences = (
        f"{found['rounds']} rounds a call, {found['security_bits']} bits of security, no keys at the server.",
        f"Equal to `clear` bit for bit: {equal}. PSNR against float32: {found['psnr_db']:.1f} dB.",
        f"A batch of two takes {found['batch_of_two']:.2f} times a first call, {found['batch_of_two_later']:.2f} times a later.",
        *([f"Compiling: {found['compile_s']:.0f} s, {found['compile_peak_mib']:,.0f} MiB at most."] if found["compile_s"] else []),
        f"Measured over predicted: client {shares[0]} and {shares[1]}, server {shares[2]} and {shares[3]}, bytes {bytes_:.4f},",
        f"the server's memory {predicted['server_peak_mib']['ratio']:.2f}.",
        f"{cpu['cpu']}, {cpu['cores']} cores, commit {cpu['commit']}; medians of {found['runs']} runs.",
    )
    return text + "\n" + "\n".join(sentences) + "\n"


def link_table(found: dict[str, Any]) -> str:
    """The same over a link, beside the prediction; or why there is none."""
    over = found.get("over_link", {"link": "no link", "reason": "not measured"})
    if "reason" in over:
        return f"{over['link']}: {over['reason']}.\n"
    return (
        f"| {over['link']} | measured wall s | predicted |\n|---|---:|---:|\n"
        f"| first call | {over['wall_s']:.1f} | {over['predicted_wall_s']:.1f} |\n"
        f"| later calls | {over['wall_later_s']:.1f} | {over['predicted_wall_later_s']:.1f} |\n"
    )
