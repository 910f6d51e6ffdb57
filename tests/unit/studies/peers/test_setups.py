import os
import tomllib
from pathlib import Path

from servepath.protocols.deployments import Shadow
from servepath.protocols.deployments_file import read_deployments
from studies.peers.peers import envoy_config
from studies.peers.processes import cpu_ns, pinned
from studies.peers.setups import IDLE, POLICIES, Cores, deployments
from studies.peers.ways import difference, read_codes

GIVEN = {
    "gateway": {"drain_s": 3.0},
    "models": {"simple_nn": {"default": "torchserve", "stacks": {"onnx": {"max_queue": 7}}}},
}
EXPOSITION = """\
# HELP servepath_requests_total Calls ended, by gRPC code.
servepath_requests_total{code="OK",model="simple_nn",stack="onnx"} 12.0
servepath_requests_total{code="OK",model="bench_4k",stack="onnx"} 1e+06
servepath_requests_total{code="INTERNAL",model="simple_nn",stack="onnx"} 1.0
servepath_rows_total{model="simple_nn",stack="onnx"} 99.0
"""


def test_the_gateways_limits_are_the_repositorys_but_for_those_given() -> None:
    made = tomllib.loads(deployments(GIVEN, ("simple_nn", "bench_4k"), "onnx", {"max_merge_rows": 1}))
    path = {"default": "onnx", "stacks": {"onnx": {"max_queue": 7, "max_merge_rows": 1}}}
    assert made == {"gateway": {"drain_s": 3.0}, "models": {"simple_nn": path, "bench_4k": path}}


def test_the_gateway_takes_what_is_made_of_the_repositorys_file(tmp_path: Path) -> None:
    given = tomllib.loads(Path("deployments.toml").read_text())
    file = tmp_path / "deployments.toml"
    file.write_text(deployments(given, ("simple_nn",), "torchserve", {"max_merge_rows": 1}))
    ours = read_deployments(Path("deployments.toml"))
    (model,) = read_deployments(file).models
    repository = next(deployment for deployment in ours.models if deployment.model == "simple_nn")
    assert read_deployments(file).gateway == ours.gateway
    assert model.stacks["torchserve"].max_queue == repository.stacks["torchserve"].max_queue
    assert model.stacks["torchserve"].max_merge_rows == 1


def test_counters_are_summed_over_models_and_other_metrics_left_alone() -> None:
    assert read_codes(EXPOSITION) == {"OK": 1_000_012, "INTERNAL": 1}


def test_a_code_that_appears_between_two_looks_is_counted_from_nothing() -> None:
    assert difference({"OK": 2}, {"OK": 5, "INTERNAL": 1}) == {"OK": 3, "INTERNAL": 1}


def test_a_server_that_counts_nothing_gives_no_difference() -> None:
    assert difference(None, None) is None


def test_two_cores_are_shared_by_front_and_back() -> None:
    assert Cores.of([0, 1]) == Cores("0", "1", "0,1")


def test_one_core_is_shared_by_all() -> None:
    assert Cores.of([3]) == Cores("3", "3", "3")


def test_a_program_is_pinned_by_taskset() -> None:
    assert pinned("1", ["h2load"]) == ["taskset", "-c", "1", "h2load"]


def test_a_process_that_has_run_has_had_cpu() -> None:
    assert cpu_ns(os.getpid()) > 0


def test_envoys_configuration_gets_both_ports_and_has_no_access_log() -> None:
    text = envoy_config(1234, 5678)
    assert "port_value: 1234" in text
    assert "port_value: 5678" in text
    assert "access_log" not in text.partition("static_resources")[2]
    assert "$" not in text


def test_with_policies_a_model_has_weights_a_fallback_and_a_shadow_that_are_idle(tmp_path: Path) -> None:
    file = tmp_path / "deployments.toml"
    file.write_text(deployments(GIVEN, ("simple_nn", "bench_4k"), "onnx", {}, POLICIES))
    for model in read_deployments(file).models:
        assert (model.default, model.shares, model.fallback) == ("onnx", {"onnx": 100.0, IDLE: 0.0}, (IDLE,))
        assert model.shadow == Shadow(IDLE, 0.01)
