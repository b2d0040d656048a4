"""What the OpenAPI document says is kept, whatever is sent: generated requests, good and bad."""

import warnings

import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

from tests.serving.conftest import BEARER

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance]


def test_every_answer_is_one_that_is_described(url: str) -> None:
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    asked = set()
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def ask(case: Case) -> None:
            asked.add(case.path)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                case.call_and_validate(headers=BEARER, checks=CHECKS)

        ask()
    assert {"/v1/embed", "/v1/annotate", "/v1/predict_expression", "/v1/models/{model}/genes"} <= asked
