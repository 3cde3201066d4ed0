"""The messages of images' tasks, each written into the form of one that Celery itself made.

All of them are alike but for the image's id, its record and the delivery's tag. Celery and kombu take 0.8 CPU-ms for
one, most of it spent on what is the same every time.
"""

from __future__ import annotations

import base64
import json
import uuid
import weakref
from typing import Any

from celery import Celery
from kombu.connection import Connection

from job_system.queues import IMAGE_TASK, IMAGES
from records import ImageRecord

_ID, _RECORD, _TAG = (f"weavloader {what} {uuid.uuid4()}" for what in ("id", "record", "tag"))


class MessageForm:
    """How an app's message of an image's task reads on the broker's list."""

    def __init__(self, app: Celery) -> None:
        sample = _sample(app)
        body = base64.b64decode(sample["body"]).decode()
        sample["body"] = _RECORD
        sample["properties"]["delivery_tag"] = _TAG
        self._body = _form(body, {_RECORD: "record"})
        self._message = _form(json.dumps(sample), {_ID: "id", _RECORD: "body", _TAG: "tag"})

    def write(self, record: ImageRecord) -> str:
        """The record's message; its task's id is the image's id, and its delivery's tag is new."""
        body = self._body % {"record": json.dumps(record.to_message(), separators=(",", ":"))}
        return self._message % {
            "id": json.dumps(record.id),
            "body": f'"{base64.b64encode(body.encode()).decode()}"',
            "tag": f'"{uuid.uuid4()}"',
        }


_forms: weakref.WeakKeyDictionary[Celery, MessageForm] = weakref.WeakKeyDictionary()


def message_form(app: Celery) -> MessageForm:
    """The app's form, made once."""
    form = _forms.get(app)
    if form is None:
        form = _forms[app] = MessageForm(app)
    return form


def _sample(app: Celery) -> dict[str, Any]:
    """One message as Celery makes it and kombu puts it on a list, which is this process's memory here."""
    task = app.amqp.as_task_v2(_ID, IMAGE_TASK, args=(_RECORD,), ignore_result=True, argsrepr=_ID)
    with Connection("memory://") as connection:  # type: ignore[no-untyped-call]
        producer = app.amqp.Producer(connection, auto_declare=False)
        app.amqp.send_task_message(producer, IMAGE_TASK, task, queue=IMAGES, retry=False)
        sample: dict[str, Any] = producer.channel._get(IMAGES)
    return sample


def _form(text: str, places: dict[str, str]) -> str:
    """The JSON text as a format, with a named place for each of these strings."""
    text = text.replace("%", "%%")
    for string, name in places.items():
        text = text.replace(json.dumps(string), f"%({name})s")
    return text
