"""Reports as mail servers and providers send them, about a message of ours. Written by hand after their documents."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

NOW = datetime(2026, 11, 23, 14, 5, tzinfo=UTC)
NOTICE_ID = "5f0c9a4e2b7d4d1a5f0c9a4e"
MESSAGE_ID = f"<{NOTICE_ID}@acme.example>"
ADA = "ada@customer.example"
TOPIC = "arn:aws:sns:eu-west-1:123456789012:bounces"


def mail(
    *,
    action: str = "failed",
    status: str = "5.1.1",
    recipient: str = f"rfc822; {ADA}",
    message_id: str = MESSAGE_ID,
    returned: str = "message/rfc822",
    report: str = "multipart/report; report-type=delivery-status",
    head: str = "",
    fields: str = "",
) -> bytes:
    """A report as Postfix writes it."""
    original = f"From: healthd <healthd@acme.example>\nTo: {ADA}\nMessage-ID: {message_id}\nSubject: Reconnect\n"
    return f"""Return-Path: <>
Date: Mon, 23 Nov 2026 14:00:00 +0000
From: MAILER-DAEMON@mx.customer.example (Mail Delivery System)
To: healthd@acme.example
Subject: Undelivered Mail Returned to Sender
Auto-Submitted: auto-replied
MIME-Version: 1.0
{head}Content-Type: {report}; boundary="8C1F2.1795442400/mx"
Message-Id: <20261123140000.8C1F2@mx.customer.example>

This is a MIME-encapsulated message.

--8C1F2.1795442400/mx
Content-Description: Notification
Content-Type: text/plain; charset=us-ascii

I'm sorry to have to inform you that your message could not be delivered.

<{ADA}>: host mx.customer.example said: 550 5.1.1 <{ADA}> unknown

--8C1F2.1795442400/mx
Content-Description: Delivery report
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.customer.example
Arrival-Date: Mon, 23 Nov 2026 13:59:58 +0000

Final-Recipient: {recipient}
Original-Recipient: rfc822;{ADA}
Action: {action}
Status: {status}
{fields}Diagnostic-Code: smtp; 550 5.1.1 <{ADA}>: Recipient address rejected

--8C1F2.1795442400/mx
Content-Description: Undelivered Message
Content-Type: {returned}

{original}
Text
--8C1F2.1795442400/mx--
""".encode()


def sns(message: object, **changes: Any) -> bytes:
    """In the envelope of Amazon's notification service."""
    return json.dumps(
        {
            "Type": "Notification",
            "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
            "TopicArn": TOPIC,
            "Message": message if isinstance(message, str) else json.dumps(message),
            "Timestamp": "2026-11-23T14:00:01.000Z",
            "SignatureVersion": "1",
            **changes,
        }
    ).encode()


def ses(**bounce: Any) -> dict[str, Any]:
    return {
        "notificationType": "Bounce",
        "bounce": {
            "bounceType": "Permanent",
            "bounceSubType": "General",
            "bouncedRecipients": [
                {
                    "emailAddress": ADA,
                    "action": "failed",
                    "status": "5.1.1",
                    "diagnosticCode": f"smtp; 550 5.1.1 <{ADA}>: no such user",
                }
            ],
            "timestamp": "2026-11-23T14:00:00.000Z",
            "feedbackId": "0100017f",
            **bounce,
        },
        "mail": {
            "timestamp": "2026-11-23T13:59:58.000Z",
            "messageId": "0102018f-1234-000000",
            "source": "healthd@acme.example",
            "destination": [ADA],
            "headersTruncated": False,
            "headers": [{"name": "From", "value": "healthd@acme.example"}, {"name": "Message-ID", "value": MESSAGE_ID}],
            "commonHeaders": {"messageId": MESSAGE_ID, "subject": "Reconnect"},
        },
    }


def ses_complaint(feedback: str | None = "abuse") -> dict[str, Any]:
    complaint = {"complainedRecipients": [{"emailAddress": ADA}], "timestamp": "2026-11-23T14:00:00.000Z"}
    if feedback is not None:
        complaint["complaintFeedbackType"] = feedback
    return {"notificationType": "Complaint", "complaint": complaint, "mail": ses()["mail"]}


def postmark(**changes: Any) -> dict[str, Any]:
    return {
        "RecordType": "Bounce",
        "MessageStream": "outbound",
        "ID": 692560173,
        "Type": "HardBounce",
        "TypeCode": 1,
        "Name": "Hard bounce",
        "MessageID": "2c1b63fe-43f2-4db5-91b0-8bdfa44a9316",
        "Description": "The server was unable to deliver your message (ex: unknown user, mailbox not found).",
        "Details": f"smtp;550 5.1.1 <{ADA}> unknown",
        "Email": ADA,
        "From": "healthd@acme.example",
        "BouncedAt": "2026-11-23T14:00:00.0000000Z",
        "DumpAvailable": True,
        "Inactive": True,
        "CanActivate": True,
        **changes,
    }


def sendgrid(**changes: Any) -> dict[str, Any]:
    return {
        "email": ADA,
        "timestamp": 1795442400,
        "smtp-id": MESSAGE_ID,
        "event": "bounce",
        "type": "bounce",
        "reason": f"550 5.1.1 <{ADA}> no such user",
        "status": "5.1.1",
        "sg_event_id": "6g4ZI7SA-xmRDv57GoPIPw==",
        "sg_message_id": "14c5d75ce93.dfd.64b469.filter0001.16648.5515E0B88.0",
        **changes,
    }


def mailgun(**changes: Any) -> dict[str, Any]:
    return {
        "signature": {"timestamp": "1795442700", "token": "a8ce0edb2dd8301dee6c2405235584e45aa91d1e", "signature": "0"},
        "event-data": {
            "event": "failed",
            "severity": "permanent",
            "reason": "bounce",
            "recipient": ADA,
            "timestamp": 1795442400.0,
            "message": {"headers": {"to": ADA, "message-id": MESSAGE_ID.strip("<>"), "from": "healthd@acme.example"}},
            "delivery-status": {"code": 550, "enhanced-code": "5.1.1", "message": f"<{ADA}> unknown"},
            **changes,
        },
    }


def resend(kind: str = "email.bounced", **changes: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "created_at": "2026-11-23T14:00:00.000Z",
        "data": {
            "created_at": "2026-11-23T13:59:58.894719+00:00",
            "email_id": "56761188-7520-42d8-8898-ff6fc54ce618",
            "from": "healthd <healthd@acme.example>",
            "to": [ADA],
            "subject": "Reconnect",
            "bounce": {"message": f"{ADA} is on the suppression list.", "subType": "Suppressed", "type": "Permanent"},
            **changes,
        },
    }


BODIES: dict[str, Callable[[], bytes]] = {
    "ses": lambda: sns(ses()),
    "postmark": lambda: json.dumps(postmark()).encode(),
    "sendgrid": lambda: json.dumps([sendgrid()]).encode(),
    "mailgun": lambda: json.dumps(mailgun()).encode(),
    "resend": lambda: json.dumps(resend()).encode(),
    "dsn": mail,
}
"""One permanent bounce of each provider's, that of the sample message at 14:00."""
