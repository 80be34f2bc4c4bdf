"""Options: precedence, ranges, did-you-mean, and the deep ones."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from balancer.errors import SettingError
from balancer.settings import Settings, describe, from_sources, names, parse

SEED_DEFAULTS = {
    "check_interval": 30, "utilization_threshold_high": 0.85, "utilization_threshold_low": 0.2,
    "performance_window": 5, "enable_task_migration": True, "max_simultaneous_migrations": 2,
    "enable_dynamic_thresholds": True, "enable_predictive_balancing": True,
    "enable_cost_benefit_analysis": True, "enable_hardware_specific_strategies": True,
    "enable_resource_efficiency": True, "threshold_adjustment_rate": 0.05, "prediction_window": 3,
}


def test_the_seeds_thirteen_have_its_defaults() -> None:
    defaults = parse({})
    assert {name: getattr(defaults, name) for name in SEED_DEFAULTS} == SEED_DEFAULTS
    assert {row.name for row in describe() if row.seed} == set(SEED_DEFAULTS)


def test_the_defaults_pass_their_own_checks() -> None:
    assert parse({}) == Settings()


@pytest.mark.parametrize(("conf", "environ", "command_line", "expected"), [
    ({}, {}, {}, 30.0),
    ({"balancer_check_interval": 20}, {}, {}, 20.0),
    ({"CELERY_BALANCER_CHECK_INTERVAL": 20}, {}, {}, 20.0),
    ({"balancer_check_interval": 20}, {"BALANCER_CHECK_INTERVAL": "10"}, {}, 10.0),
    ({"balancer_check_interval": 20}, {"CELERY_BALANCER_CHECK_INTERVAL": "10"}, {}, 10.0),
    ({"balancer_check_interval": 20}, {"BALANCER_CHECK_INTERVAL": "10"}, {"check_interval": 5}, 5.0),
    ({"balancer_check_interval": 20}, {"BALANCER_CHECK_INTERVAL": ""}, {"check_interval": None}, 20.0),
    ({"broker_url": "x", "unrelated": 1}, {"PATH": "/bin", "BALANCER_PORT": "tcp://1"}, {}, 30.0),
])
def test_precedence(conf: dict[str, Any], environ: dict[str, str], command_line: dict[str, Any],
                    expected: float) -> None:
    assert from_sources(conf, environ, command_line).check_interval == expected


@pytest.mark.parametrize(("values", "says"), [
    ({"chek_interval": 5},
     "unknown option 'balancer_chek_interval', did you mean 'balancer_check_interval'?"),
    ({"zzz": 5}, "the options are: balancer_check_interval"),
    ({"check_interval": "soon"}, "balancer_check_interval = 'soon': must be a number from 0.1 to 86400 s"),
    ({"check_interval": 0}, "the nearest is 0.1"),
    ({"check_interval": float("nan")}, "must be a number"),
    ({"check_interval": float("inf")}, "the nearest is 86400"),
    ({"check_interval": True}, "must be a number"),
    ({"utilization_threshold_high": 85}, "must be a number from 0 to 1; the nearest is 1"),
    ({"max_simultaneous_migrations": 1.5}, "must be a whole number from 0 to 10000; the nearest is 2"),
    ({"enable_task_migration": "maybe"}, "must be true or false"),
    ({"strategy": "pricd"}, "did you mean 'priced'?"),
    ({"namespace": "a b"}, "balancer_namespace = 'a b'"),
    ({"hardware": ""}, "balancer_hardware"),
    ({"db_path": 5}, "must be a text, not int"),
    ({"tasks": "{"}, "no JSON"),
    ({"tasks": [1]}, "must be a mapping"),
    ({"tasks": {"t": {"hardwar": "cpu"}}},
     "balancer_tasks['t']: unknown key 'hardwar', did you mean 'hardware'?"),
    ({"tasks": {"t": {"gpu_memory": "lots"}}}, "balancer_tasks['t']['gpu_memory'] = 'lots'"),
    ({"tasks": {"t": {"priority": 12}}}, "from 0 to 9; the nearest is 9"),
    ({"tasks": {"t": {"size": 0}}}, "must be a number above 0"),
    ({"hints": {"p": {"cuda": -1}}}, "balancer_hints['p']['cuda'] = -1: must be a number above 0"),
    ({"hints": {"p": {"V100": 3}}}, "balancer_hints['p']: 'V100' is unknown; there are cpu, cuda,"),
    ({"tasks": {"t": {"hardware": "gpu"}}}, "balancer_tasks['t']['hardware']: 'gpu' is unknown"),
    ({"hints": {"p": 3}}, "balancer_hints['p'] = 3: must be a mapping"),
    ({"utilization_threshold_high": 0.5, "utilization_threshold_low": 0.5},
     "must be at least 0.05 above balancer_utilization_threshold_low"),
    ({"heartbeat_interval": 10, "heartbeat_ttl": 10}, "at least twice balancer_heartbeat_interval"),
    ({"price_interval": 60, "check_interval": 90}, "balancer_order_ttl = 30 s ends before"),
    ({"ledger_days": -1}, "balancer_ledger_days = -1: must be a number from 0 to 36500"),
    ({"visibility_timeout": 1}, "at least three times balancer_heartbeat_interval"),
])
def test_a_bad_value_is_refused_by_name_value_and_way_out(values: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingError) as refused:
        parse(values)
    assert says in str(refused.value)


def test_an_unknown_key_in_conf_is_refused() -> None:
    with pytest.raises(SettingError, match="did you mean 'balancer_price_interval'"):
        from_sources({"balancer_price_intervall": 1}, {}, {})


def test_a_misspelt_variable_is_refused_and_a_strangers_is_not() -> None:
    says = "'BALANCER_CHEK_INTERVAL' in the environment, did you mean 'BALANCER_CHECK_INTERVAL'"
    with pytest.raises(SettingError, match=says):
        from_sources({}, {"BALANCER_CHEK_INTERVAL": "5"}, {})
    assert from_sources({}, {"BALANCER_SERVICE_HOST": "10.0.0.1"}, {}) == Settings()


@pytest.mark.parametrize(("name", "text", "value"), [
    ("utilization_threshold_high", "0.9", 0.9),
    ("enable_predictive_balancing", "false", False),
    ("enable_predictive_balancing", "On", True),
    ("max_simultaneous_migrations", "4", 4),
    ("strategy", "proj.policy:Mine", "proj.policy:Mine"),
    ("db_path", "", ""),
    ("tasks", '{"a": {"hardware": "cuda, cpu", "gpu_memory": "16GB", "memory": "2GiB"}}',
     {"a": {"hardware": ("cuda", "cpu"), "gpu_memory": 16 * 10**9, "memory": 2**31}}),
    ("hints", '{"p": {"cuda-V100": 2}}', {"p": {"cuda-V100": 2.0}}),
])
def test_texts_of_the_environment_are_read(name: str, text: str, value: Any) -> None:
    assert getattr(from_sources({}, {f"BALANCER_{name.upper()}": text}, {}), name) == value


def test_a_path_is_a_text_too() -> None:
    assert parse({"db_path": Path("x.duckdb")}).db_path == "x.duckdb"


def test_every_option_is_described() -> None:
    rows = {row.name: row for row in describe()}
    assert set(rows) == {f.name for f in fields(Settings)} == set(names())
    assert all(row.help for row in rows.values())
    assert rows["check_interval"].limits == "0.1 – 86400"
    assert rows["check_interval"].environment == "BALANCER_CHECK_INTERVAL"


ANYTHING = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
                     st.lists(st.integers(), max_size=2),
                     st.dictionaries(st.text(max_size=3), st.integers(), max_size=2))


@hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(names()), ANYTHING, max_size=6))
def test_whatever_is_given_parses_or_is_refused_with_a_name(values: dict[str, Any]) -> None:
    said, settings = "", Settings()
    try:
        settings = parse(values)
    except SettingError as refused:
        said = str(refused)
    assert said == "" or "balancer_" in said
    assert 0 <= settings.utilization_threshold_low < settings.utilization_threshold_high <= 1
