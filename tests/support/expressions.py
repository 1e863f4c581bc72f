"""Expressions of every kind that is supported, for the comparison with a real Prometheus."""

from __future__ import annotations

from itertools import product

_RANGES = (
    "rate",
    "irate",
    "increase",
    "delta",
    "idelta",
    "deriv",
    "changes",
    "resets",
    "avg_over_time",
    "min_over_time",
    "max_over_time",
    "sum_over_time",
    "count_over_time",
    "last_over_time",
    "present_over_time",
    "stddev_over_time",
    "stdvar_over_time",
    "absent_over_time",
)
_RANGED = (
    "requests_total[5m]",
    "requests_total[40s]",
    "cpu_user_seconds_total[3m]",
    "ending[2m]",
    "special[5m]",
    "sparse[13m]",
    "negative_total[4m]",
)
_ELEMENTWISE = (
    "abs",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "ceil",
    "cos",
    "cosh",
    "deg",
    "exp",
    "floor",
    "ln",
    "log10",
    "log2",
    "rad",
    "sgn",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
    "round",
)
_AGGREGATIONS = ("sum", "avg", "min", "max", "count", "group", "stddev", "stdvar")
_GROUPINGS = ("", " by (job)", " without (instance)", " by (job, nothing)", " without ()")

SELECTORS = """
requests_total
cpu_usage_percent
cpu_usage_per_core_percent{core!="0"}
{__name__=~"load.*|memory_.*"}
requests_total{job="api",instance=~"1|3"}
requests_total{job=~"a.*",instance!~"[12]"}
requests_total{missing=""}
requests_total{job!=""}
requests_total{job=~".+"}
{"dotted.name"}
{"dotted.name","x.y"="1"}
odd:name{text="a \\"b\\"\\\\c\\n\\u20ac"}
odd:name{path=~`/dev/\\w+\\.a`}
odd:name{text=~'(?s)a.*\\xe2\\x82\\xac'}
ending
special
sparse
nothing_at_all
requests_total offset 5m
requests_total offset -5m
requests_total offset 1m30s500ms
requests_total offset 90
requests_total offset 2y
requests_total @ 1700001000
requests_total @ 1700001000.5
requests_total @ start()
requests_total @ end()
requests_total @ end() offset 7m
requests_total offset 7m @ start()
ending @ 1700000640 offset 10s
rate(requests_total[5m] @ 1700002000)
rate(requests_total[5m] @ end() offset 3m)
predict_linear(temperature[10m] @ start(), 60)
sum_over_time(temperature[2m] @ start()) + temperature
timestamp(temperature @ 1700001000)
sum(requests_total @ end()) by (job)
# a comment
build_info{version="v1"} # and one at the end
{job="web", __name__="temperature",}
sum
count
"""

NUMBERS = """
1
-1
0x1F
1e3
.5
1_000
017
Inf
-inf
NaN
5m
1h30m
1 + 2 * 3 ^ 2 ^ 0.5 - -4 % 3
-2 ^ 2
2 ^ -1 * 3
1 / 0
-1 / 0
0 / 0
5 % 0
Inf % 2
2 % Inf
-7.5 % 2
0 ^ -1
(-8) ^ (1 / 3)
(-2) ^ 3
1e200 ^ 2
-(1e200) ^ 3
1 atan2 -1
3 > bool 2
3 < bool NaN
1 == bool 1.0
2 != bool 2
3 >= bool 3
3 <= bool 2
time()
pi()
scalar(constant)
scalar(requests_total)
scalar(nothing_at_all)
time() - scalar(constant) * 2
vector(time())
vector(1) + vector(2)
-temperature
+temperature
--temperature
"text"
'it''s'
`raw\\n`
"""

FUNCTIONS = """
clamp(temperature, 48, 52)
clamp(temperature, 52, 48)
clamp(temperature, NaN, 52)
clamp(special, -1, 2)
clamp_min(temperature, scalar(limit{instance="1",job="api"}))
clamp_max(special, 1)
round(temperature, 0.5)
round(temperature, 7)
round(temperature, 0)
round(special, 0.3)
sort(temperature)
sort_desc(temperature)
sort(special)
sort_desc(special)
sort_desc(sum by (instance) (temperature))
label_replace(requests_total, "where", "$1-${2}x", "job", "(a|w)(.*)")
label_replace(requests_total, "where", "$1", "job", "nothing(.*)")
label_replace(requests_total, "__name__", "other_total", "job", ".*")
label_replace(requests_total, "x", "$name", "job", "(?P<name>.)(.*)")
label_replace(temperature{instance="1"}, "instance", "all", "", "")
label_join(requests_total, "both", "/", "job", "instance", "missing")
label_join(requests_total, "both", "")
timestamp(requests_total)
timestamp(sparse)
timestamp(special)
timestamp(requests_total + 1)
timestamp(requests_total offset 3m)
timestamp((requests_total))
absent(nothing_at_all)
absent(nothing_at_all{job="a",job="b",x="y",z=~"w"})
absent(requests_total)
absent(ending)
absent(ending{part="b"})
absent(sum(nothing_at_all))
absent(nothing_at_all{a=""})
absent_over_time(nothing_at_all{job="x"}[5m])
absent_over_time(ending{part="b"}[3m])
absent_over_time(sum(ending{part="b"})[3m:30s])
histogram_quantile(0.5, latency_bucket)
histogram_quantile(0.9, rate(latency_bucket[5m]))
histogram_quantile(0.99, sum by (le) (rate(latency_bucket[5m])))
histogram_quantile(0, latency_bucket)
histogram_quantile(1, latency_bucket)
histogram_quantile(-0.1, latency_bucket)
histogram_quantile(1.1, latency_bucket)
histogram_quantile(NaN, latency_bucket)
histogram_quantile(0.5, broken_bucket)
histogram_quantile(0.7, broken_bucket)
histogram_quantile(0.5, endless_bucket)
histogram_quantile(0.1, below_bucket)
histogram_quantile(0.6, below_bucket)
histogram_quantile(0.5, temperature)
histogram_quantile(scalar(constant) / 100, latency_bucket)
predict_linear(temperature[10m], 3600)
predict_linear(memory_available_bytes[20m], 86400)
predict_linear(sparse[30m], -600)
predict_linear(constant[5m], 100)
predict_linear(temperature[1s], 3600)
predict_linear(temperature[10m] offset 5m, 3600)
deriv(memory_available_bytes[10m])
deriv(overflowing[3m])
deriv(constant[5m])
quantile_over_time(0.5, temperature[5m])
quantile_over_time(0.95, cpu_usage_percent[10m])
quantile_over_time(0, special[5m])
quantile_over_time(1, special[5m])
quantile_over_time(2, temperature[5m])
quantile_over_time(-1, temperature[5m])
quantile_over_time(NaN, temperature[5m])
quantile_over_time(0.3, ending[3m])
avg_over_time(overflowing[5m])
sum_over_time(overflowing[5m])
avg_over_time(cancelling_over_time[5m])
sum_over_time(cancelling_over_time[5m])
sum_over_time(cancelling_over_time[35s])
stddev_over_time(cancelling_over_time[5m])
max_over_time(overflowing[3m])
rate(exactly[5m])
rate(exactly[3m])
increase(exactly[1m])
increase(exactly[61s])
irate(exactly[90s])
count_over_time(exactly[1m])
count_over_time(exactly[60001ms])
sum_over_time(exactly[120s] offset 59s)
minute()
hour(vector(1700000000))
day_of_month()
day_of_week()
day_of_year()
days_in_month()
month()
year()
days_in_month(vector(951782400))
year(vector(-1))
hour(temperature)
day_of_year(vector(1735603200))
"""

AGGREGATIONS = """
topk(2, temperature)
topk(1, temperature) by (job)
topk(100, temperature)
topk(0, temperature)
topk(-1, temperature)
topk(2.9, temperature)
topk(2, special)
topk(scalar(constant) / 42, temperature)
bottomk(2, temperature)
bottomk(1, temperature) without (instance)
bottomk(2, special)
topk by (job) (2, rate(requests_total[5m]))
quantile(0.5, temperature)
quantile by (job) (0.9, temperature)
quantile(2, temperature)
quantile(-1, temperature)
quantile(NaN, temperature)
quantile(0.5, special)
quantile(scalar(constant) / 50, temperature)
sum(huge)
avg(huge)
stddev(huge)
sum(cancelling)
avg(cancelling)
sum(special)
avg(special)
min(special)
max(special)
stddev(special)
count(special)
sum(nothing_at_all)
sum without (core) (cpu_usage_per_core_percent)
count by (__name__) ({job="api"})
count_values("value", limit)
count_values without (instance) ("value", round(temperature))
count_values by (job) ("job", limit)
count_values("value", special)
sum by (job) (rate(requests_total[5m])) / sum by (job) (rate(requests_total[5m] offset 10m))
max by (job) (max_over_time(temperature[5m]))
sum(sum by (job) (temperature))
SUM BY (job) (temperature)
sum by ("job") (temperature)
sum by (job,) (temperature)
"""

BINARY = """
requests_total + temperature
requests_total - on (job, instance) temperature
requests_total * ignoring (nothing) temperature
temperature / limit
temperature % 7
temperature ^ 2
2 ^ (temperature / 10)
temperature atan2 limit
7 % temperature
special / 0
special % special
special ^ 2
special ^ 0.5
0 - special
special * -1
temperature > 50
temperature < limit
temperature >= limit - 1
temperature <= bool 50
50 < temperature
50 < bool temperature
temperature == temperature
temperature != bool limit
special == special
special != special
special > bool 0
NaN == special
limit == 52
temperature > on (job, instance) limit
temperature > bool on (job, instance) limit
temperature * on (job) group_left (team) team_info
temperature * on (job) group_left team_info
team_info - on (job) group_right () temperature
temperature > on (job) group_left team_info
team_info < on (job) group_right (team) temperature
team_info < bool on (job) group_right (team) temperature
temperature * on (job, instance) group_left (version) build_info
temperature * on (job, instance) group_left (nothing) build_info
temperature * ignoring (version) group_right build_info
sum by (job) (temperature) * on (job) team_info
sum by (job) (temperature) + ignoring (team) team_info
temperature and limit
temperature and on (job) team_info{job="api"}
temperature and ignoring (instance) sum by (job) (temperature)
temperature > 50 and temperature < 52
temperature > 50 or limit
temperature or vector(1)
temperature > 1000 or on () vector(0)
temperature or on (job) team_info
temperature unless temperature > 50
temperature unless on (job) team_info{job="api"}
temperature unless ignoring (instance, job) nothing_at_all
nothing_at_all or temperature
nothing_at_all and temperature
temperature unless nothing_at_all
ending or on () vector(7)
ending and on () vector(7)
temperature > 50 or temperature < 49 and limit > 51 unless limit == 53
temperature + limit * 2 - 1
(temperature + limit) * 2 - 1
-temperature ^ 2
-(temperature + 1)
temperature > limit > 40
temperature + on (job, instance) limit > 100
1 + temperature + 1
temperature * 0
temperature / (temperature - temperature)
ending + on () group_left vector(1)
sum(temperature) > 0
vector(1) == vector(1)
requests_total{instance="1"} / ignoring (instance) requests_total{instance="2"}
requests_total{instance="1"} == ignoring (instance) requests_total{instance="1"}
"""

SUBQUERIES = """
max_over_time(rate(requests_total[2m])[10m:1m])
max_over_time(rate(requests_total[2m])[10m:])
avg_over_time(temperature[10m:37s])
sum_over_time(temperature[5m:1m] offset 3m)
sum_over_time(temperature[5m:1m] @ 1700002000)
sum_over_time(temperature[5m:1m] @ end() offset 2m)
sum_over_time((temperature > 50)[10m:30s])
rate(sum by (job) (requests_total)[10m:30s])
deriv(sum(temperature)[10m:1m])
quantile_over_time(0.9, max by (job) (temperature)[10m:20s])
max_over_time(avg_over_time(temperature[2m:20s])[10m:2m])
count_over_time((temperature @ 1700001000)[5m:1m])
count_over_time((temperature @ end())[5m:1m])
last_over_time(temperature[10m:3m])
min_over_time(vector(time())[5m:1m])
sum_over_time(vector(1)[5m:7s])
changes(ending[10m:30s])
increase(requests_total[10m:1m])
absent_over_time(nothing_at_all[5m:1m])
predict_linear(temperature[10m:1m], 600)
stddev_over_time(special[10m:1m])
max_over_time(vector(time())[10m:1m] offset 5m)
sum_over_time(minute()[10m:1m])
count_over_time(topk(1, temperature)[10m:1m])
max_over_time(label_replace(temperature, "x", "$1", "job", "(.*)")[5m:1m])
max_over_time((temperature offset 5m)[5m:1m])
sum_over_time(timestamp(temperature)[5m:1m])
"""

AT_AN_INSTANT = """
requests_total[2m]
special[5m]
ending[20m]
temperature[2m:30s]
temperature[2m:30s] offset 1m
temperature[1m] @ 1700001000
(temperature[1m])
"text"
'it\\'s'
`raw\\n`
sort(temperature)
sort_desc(temperature)
sort_desc(special)
topk(3, temperature)
bottomk(3, temperature)
sort(sum by (job) (temperature))
"""
"""Those whose order is a part of the answer, and those that only an instant has."""

ORDERED = ("sort", "topk", "bottomk")

REFUSED = """
foo bar
1 +
(1
sum(
sum()
sum(1)
sum(1, temperature)
topk(temperature)
topk("1", temperature)
quantile(temperature, 1)
rate(temperature)
rate(1)
rate("x")
rate()
rate(temperature[5m], 1)
abs(temperature[5m])
unknown_function(temperature)
{}
{x=""}
{x=~".*"}
temperature{__name__="x"}
temperature{job="a" instance="b"}
temperature{job=api}
temperature{job}
temperature{=“x”}
temperature[5m
temperature[5]m
temperature[]
temperature[0s]
temperature[-5m]
temperature[5m:0s]
temperature[5x]
temperature[1m2h]
(temperature)[5m]
temperature[5m][5m]
temperature offset 5m [5m]
temperature offset
temperature offset x
temperature offset 5m offset 5m
1 offset 5m
temperature @
temperature @ x
temperature @ NaN
temperature @ 5 @ 6
temperature @ start
sum(temperature) @ 5
1 > 2
1 and 2
temperature and 1
temperature + bool limit
1 + "x"
"a" + "b"
-"a"
temperature[5m] + 1
-temperature[5m]
temperature and on (job) group_left limit
temperature * on (job) group_left (job) limit
temperature * group_left limit
temperature on (job) limit
1 on (job) + 2
temperature + on (job limit
sum by job (temperature)
sum by (job) temperature
temperature{job=~"("}
temperature{job=~"*"}
"unclosed
'unclosed
`unclosed
"\\z"
1e
0x
1..2
5mm
1 = 2
1 =~ 2
! temperature
temperature; limit
label_replace(temperature, "a", "b", "c")
label_replace(temperature, "a", "b", "c", "(")
label_replace(temperature, "", "b", "c", "")
label_replace(temperature, "instance", "same", "job", ".*")
label_join(temperature, "instance")
label_join(temperature, "", "-", "job")
count_values("", temperature)
clamp(temperature, 1)
round(temperature, 1, 2)
time(1)
vector(temperature)
scalar(1)
histogram_quantile(latency_bucket, 0.5)
requests_total + on (job) temperature
temperature * on (job) group_left limit
limit * on (job) group_right temperature
team_info * on (job) group_right temperature * on (job) team_info * on () limit
temperature + on () constant
temperature * on () team_info
-{__name__=~"requests_total|temperature"}
rate({__name__=~"requests_total|temperature"}[5m])
abs({__name__=~"requests_total|temperature"})
{__name__=~"requests_total|temperature"} + 1
label_replace(temperature, "job", "", "instance", "1")
team_info * on (job) group_right (instance) temperature
label_join(temperature{instance="1"}, "job", ",", "nothing")
topk(NaN, temperature)
topk(1e30, temperature)
limitk(1, temperature)
mad_over_time(temperature[5m])
sort_by_label(temperature, "job")
info(temperature)
sum_over_time("x"[5m:1m])
1[5m:1m]
min_over_time(time()[5m:1m])
on
bool(1)
group_left
by (job) sum(temperature)
"""


def _lines(text: str) -> list[str]:
    return [line for line in text.strip().splitlines() if not line.startswith("# a comment")]


def expressions() -> list[str]:
    """Return all expressions that can be evaluated at an instant and over time, each once."""
    found = [f"{function}({one})" for function, one in product(_RANGES, _RANGED)]
    found += [f"{function}({one})" for function, one in product(_ELEMENTWISE, ("temperature", "special"))]
    found += [f"{function}{by} (temperature)" for function, by in product(_AGGREGATIONS, _GROUPINGS)]
    for text in (SELECTORS, NUMBERS, FUNCTIONS, AGGREGATIONS, BINARY, SUBQUERIES):
        found += _lines(text)
    return list(dict.fromkeys(one for one in found if one[0] not in "\"'`"))


def at_an_instant() -> list[str]:
    """Return expressions for an instant alone."""
    return _lines(AT_AN_INSTANT)


def refused() -> list[str]:
    """Return texts that are no expressions, or cannot be evaluated."""
    return _lines(REFUSED)
