"""A Record as one piece of HTML for a notebook: no script, nothing fetched, every stranger's word escaped."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, StrictUndefined, Template

from ...leaderboard.record.doubts import tally, told
from ...leaderboard.record.record import AttackResult, Record
from ...leaderboard.record.words import (
    DASH,
    counts,
    duration,
    percent,
    printable,
    quantity,
    score,
    score_interval,
    share,
    share_interval,
)
from .report import text

_PAGE = """\
<div class="foolbench-run">
<style>
.foolbench-run{max-width:64em;padding:0 0 1em;font:14px/1.45 system-ui,sans-serif;color:inherit}
.foolbench-run h4{margin:0;font-size:1.15em;overflow-wrap:anywhere}
.foolbench-run .fb-on{opacity:.7;margin:0 0 .6em}
.foolbench-run dl{display:flex;flex-wrap:wrap;gap:.4em 2.2em;margin:0 0 .8em}
.foolbench-run dl>div{min-width:7em}
.foolbench-run dt{font-weight:normal;opacity:.7;margin:0}
.foolbench-run dd{margin:0;font-size:1.25em;font-variant-numeric:tabular-nums}
.foolbench-run dd small{font-size:.68em;opacity:.75}
.foolbench-run .fb-wide{overflow-x:auto}
.foolbench-run table{border-collapse:collapse;border:0;margin:0;font-size:1em;color:inherit;background:none}
.foolbench-run th,.foolbench-run td{padding:.2em .8em .2em 0;border:0;text-align:left;vertical-align:baseline;\
background:none;color:inherit}
.foolbench-run thead th{font-weight:normal;opacity:.7;border-bottom:1px solid rgba(128,128,128,.5)}
.foolbench-run tbody th{font-weight:normal;white-space:nowrap}
.foolbench-run .fb-n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
.foolbench-run .fb-why{max-width:24em;overflow-wrap:anywhere}
.foolbench-run .fb-dim{opacity:.65}
.foolbench-run .fb-bar{display:inline-block;width:5em;height:.65em;margin-right:.6em;background:rgba(128,128,128,.25)}
.foolbench-run .fb-bar i{display:block;height:100%;background:#c8553d}
.foolbench-run .fb-flags{margin:.8em 0 0;padding:0;list-style:none}
.foolbench-run .fb-flags li{margin:0 0 .25em;padding-left:.7em;border-left:3px solid #d9a441}
.foolbench-run .fb-flags li.fb-doubt{border-left-color:#c8553d}
.foolbench-run details{margin-top:.8em}
.foolbench-run summary{cursor:pointer;opacity:.8}
.foolbench-run pre{overflow-x:auto;white-space:pre;font-size:.82em;line-height:1.3;color:inherit;background:none}
.foolbench-run .fb-end{opacity:.7;margin:.8em 0 0;overflow-wrap:anywhere}
</style>
<h4>{{ name }}</h4>
<p class="fb-on">{{ on }}</p>
<dl>
{%- for title, value, interval in heads %}
<div><dt>{{ title }}</dt><dd>{{ value }}{% if interval %} <small>{{ interval }}</small>{% endif %}</dd></div>
{%- endfor %}
</dl>
<div class="fb-wide"><table>
<thead><tr><th>attack</th><th>setting</th><th>fooled</th><th class="fb-n">k/n</th><th class="fb-n">95%</th>\
<th class="fb-n">queries</th></tr></thead>
<tbody>
{%- for row in rows %}
<tr{% if row.dim %} class="fb-dim"{% endif %}><th>{{ row.title }}</th><td>{{ row.setting }}</td>
{%- if row.reason %}<td colspan="4" class="fb-why">{{ dash }} {{ row.reason }}</td>
{%- else %}<td><span class="fb-bar"><i style="width:{{ row.width }}%"></i></span>{{ row.fooled }}%</td>\
<td class="fb-n">{{ row.counts }}</td><td class="fb-n">{{ row.interval }}</td><td class="fb-n">{{ row.queries }}</td>
{%- endif %}</tr>
{%- endfor %}
</tbody></table></div>
{%- if flags %}
<ul class="fb-flags">
{%- for flag in flags %}
<li{% if flag.kind == "doubt" %} class="fb-doubt"{% endif %}>\
<b>{{ flag.code }}</b> ({{ flag.kind }}) {{ flag.sentences | join(" ") }}</li>
{%- endfor %}
</ul>
{%- endif %}
<details><summary>The whole report</summary><pre>{{ report }}</pre></details>
<p class="fb-end">{{ end }}</p>
</div>
"""


def html(record: Record, folder: Path | None = None) -> str:
    """The scores, every attack, the flags, and the whole report to unfold."""
    battery, scores, provenance, attacks = record.battery, record.scores, record.provenance, record.attacks
    tier = "" if battery.tier == "standard" else f" · {battery.tier} tier"
    heads = [("robust score, of 100", score(scores.robust_score), score_interval(scores.robust_score))]
    heads.append(("survival, of 100", score(scores.survival_score), score_interval(scores.survival_score)))
    for title, measure in (
        ("clean accuracy", scores.clean_accuracy),
        ("worst case", scores.worst_case),
        ("survives all of Perturb", scores.survives_all_perturb),
    ):
        sign = "" if measure.value is None else "%"
        heads.append((title, share(measure) + sign, share_interval(measure)))
    heads += [("flags", tally(record.flags), "")] if record.flags else []
    ends = [f"{provenance.backend} on {provenance.device}, {duration(provenance.seconds)}"]
    ends += [] if record.rankable else [f"not rankable: {printable(str(record.unranked_reason))}"]
    ends += [] if folder is None else [printable(str(folder), 1000)]
    rows = [_row(_title(record, name), attacks[name]) for name in battery.counted if name in attacks]
    for name in battery.unranked:
        if name in attacks:
            rows.append(_row(f"{_title(record, name)} (unranked)", attacks[name], True))
    rows += [_row(f"{_title(record, name)} (control)", control, True) for name, control in record.controls.items()]
    return _template().render(
        name=printable(str(record.submission.get("name", "submission")), 70),
        on=f"{battery.name}{tier} · {battery.digest[:8]}",
        heads=heads,
        rows=rows,
        flags=told(record.flags, {name: attack.title for name, attack in battery.attacks.items()}),
        report=text(record, folder),
        end=" · ".join(ends),
        dash=DASH,
    )


def _title(record: Record, name: str) -> str:
    known = record.battery.attacks
    return printable(known[name].title if name in known else name, 60)


def _row(title: str, attack: AttackResult, dim: bool = False) -> dict[str, object]:
    ratio = attack.fooling_ratio
    return {
        "title": title,
        "dim": dim,
        "setting": attack.title if attack.mode != "surrogate" else f"by transfer, {attack.budget} sources",
        "reason": None if ratio.value is not None else printable(ratio.reason or "not measured"),
        "width": 0 if ratio.value is None else round(100 * ratio.value, 1),
        "fooled": DASH if ratio.value is None else percent(ratio.value),
        "counts": counts(ratio),
        "interval": share_interval(ratio),
        "queries": quantity(attack.queries),
    }


@cache
def _template() -> Template:
    return Environment(autoescape=True, undefined=StrictUndefined).from_string(_PAGE)
