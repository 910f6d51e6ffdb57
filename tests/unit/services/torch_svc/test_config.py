"""What torch_svc says of its ports, and what of the environment its JVM gets."""

from services.torch_svc.config import Ports, child_environment, explain_port


def test_a_busy_ports_explanation_names_its_use_and_its_variable() -> None:
    assert explain_port(Ports(7000, 7001, 7002, 7003, 7004), 7003) == (
        "7003 (HTTP management; set TORCH_SVC_MANAGEMENT_PORT to change it)"
    )


def test_variables_that_would_overrule_our_settings_do_not_reach_torchserve() -> None:
    foreign = {"TS_CONFIG_FILE": "x", "LOG_LOCATION": "y", "METRICS_LOCATION": "z"}
    found = child_environment({**foreign, "HOME": "/root"}, cores=3)
    assert found == {"HOME": "/root", "SERVEPATH_THREADS": "3", "OMP_WAIT_POLICY": "PASSIVE"}


def test_what_the_user_says_of_threads_stays() -> None:
    given = {"SERVEPATH_THREADS": "1", "OMP_WAIT_POLICY": "ACTIVE"}
    assert child_environment(given, cores=3) == given


def test_a_tuned_number_of_threads_goes_before_the_environments() -> None:
    given = {"SERVEPATH_THREADS": "1", "OMP_NUM_THREADS": "4", "OMP_WAIT_POLICY": "ACTIVE"}
    assert child_environment(given, cores=3, tuned=2) == {"SERVEPATH_THREADS": "2", "OMP_WAIT_POLICY": "ACTIVE"}
