"""Messages: one an image, with the record and nothing else."""

from __future__ import annotations

import base64
import json
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from celery import Celery

from errors import PartUnavailable
from job_system.celery_config import configuration
from job_system.publish import publish_records
from job_system.queues import IMAGE_TASK, IMAGES
from settings import Jobs, Settings
from tests.fixtures.redis import Valkey, running_valkey
from tests.job_system.samples import image, images


def test_the_backlog_is_a_plain_list_of_the_queues_name(app: Celery, valkey: Valkey) -> None:
    publish_records(app, images(1203))
    assert valkey.client.llen("image_processing") == 1203


def test_a_message_holds_the_record_only_and_its_id_is_the_images(app: Celery, valkey: Valkey) -> None:
    record = image()
    publish_records(app, [record])
    message = json.loads(valkey.client.lindex("image_processing", 0))
    arguments, named, embedded = json.loads(base64.b64decode(message["body"]))
    assert arguments == [record.to_message()]
    assert named == {}
    assert not any(embedded.values())
    assert message["headers"]["id"] == message["properties"]["correlation_id"] == record.id
    assert message["headers"]["task"] == "job_system.tasks.process_image_task"
    assert message["headers"]["ignore_result"] is True
    assert message["content-type"] == "application/json"


def test_a_message_is_the_one_that_celery_makes(app: Celery, valkey: Valkey) -> None:
    record = replace(image(), filename='50% "grün".jpg')
    publish_records(app, [record])
    made = app.amqp.as_task_v2(record.id, IMAGE_TASK, (record.to_message(),), ignore_result=True, argsrepr=record.id)
    with app.producer_or_acquire() as producer:
        app.amqp.send_task_message(producer, IMAGE_TASK, made, queue=IMAGES)
    theirs, ours = (json.loads(text) for text in valkey.client.lrange("image_processing", 0, -1))
    for message in (theirs, ours):
        assert uuid.UUID(message["properties"].pop("delivery_tag"))
        message["body"] = json.loads(base64.b64decode(message["body"]))
    assert ours == theirs


def test_each_delivery_has_a_tag_of_its_own(app: Celery, valkey: Valkey) -> None:
    """A worker knows what it has not acknowledged by it."""
    publish_records(app, [image(), image(), image(number=2)])
    messages = [json.loads(text) for text in valkey.client.lrange("image_processing", 0, -1)]
    assert len({message["properties"]["delivery_tag"] for message in messages}) == 3


def test_tasks_go_to_their_queues(app: Celery, valkey: Valkey) -> None:
    cleanup = ("sweep_ledger", "reprocess_dlq_tasks", "cleanup_failed_tasks", "forget_old_images", "check_health")
    for name in ("monitor_data_stream", *cleanup):
        app.send_task(f"job_system.tasks.{name}")
    assert valkey.client.llen("data_monitoring") == 1
    assert valkey.client.llen("cleanup") == len(cleanup)


def test_publishing_to_a_server_that_is_away_is_said(tmp_path: Path) -> None:
    with running_valkey(tmp_path) as server:
        url = server.url
    app = Celery("test", set_as_current=False)
    app.conf.update(configuration(Settings(jobs=Jobs(broker_url=url))))
    with pytest.raises(PartUnavailable, match="did not take 3 jobs"):
        publish_records(app, images(3))
    app.close()


def test_publishing_outlives_a_restart_of_the_server(tmp_path: Path) -> None:
    with running_valkey(tmp_path) as server:
        app = Celery("test", set_as_current=False)
        app.conf.update(configuration(Settings(jobs=Jobs(broker_url=server.url))))
        publish_records(app, images(2))
        port = server.port
    with running_valkey(tmp_path, port=port) as server:
        publish_records(app, [image(number=9)])
        assert server.client.llen("image_processing") == 3
    app.close()
