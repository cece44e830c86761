"""What clients see: the shape of every answer."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from ragsvc.domain.deletions import DeletionStatus  # noqa: TC001
from ragsvc.domain.documents import DocumentStatus, Stage, WarningCode  # noqa: TC001
from ragsvc.domain.jobs import Queue, SubjectKind  # noqa: TC001
from ragsvc.domain.uploads import UploadStatus  # noqa: TC001
from ragsvc.domain.webhooks import WebhookEvent  # noqa: TC001
from ragsvc.domain.workspaces import Scope  # noqa: TC001

# pydantic reads the annotations for the API's description
from ragsvc.http.contract.ids import (  # noqa: TC001
    ShownChunkId,
    ShownCollectionId,
    ShownDeletionId,
    ShownDocumentId,
    ShownFileId,
    ShownJobId,
    ShownKeyId,
    ShownTime,
    ShownUploadId,
    ShownWebhookId,
    ShownWorkspaceId,
)


class WorkspaceView(TypedDict):
    """A workspace, for its operator."""

    id: ShownWorkspaceId
    name: str
    bucket: str
    created_at: ShownTime


class UsageView(TypedDict):
    """What a workspace holds."""

    documents: int
    chunks: int
    storage_bytes: int


class OwnWorkspaceView(TypedDict):
    """A workspace, for its own keys."""

    id: ShownWorkspaceId
    name: str
    usage: UsageView
    quota_bytes: int | None


class KeyView(TypedDict):
    """A key without its secret."""

    id: ShownKeyId
    name: str
    key_prefix: str
    scopes: list[Scope]
    expires_at: ShownTime | None
    created_at: ShownTime


class ListedKeyView(KeyView):
    """A key in its workspace's list; `last_used_at` is true to the minute, `replaced_by` its successor."""

    last_used_at: ShownTime | None
    replaced_by: ShownKeyId | None


class CreatedKeyView(KeyView):
    """A new key; this is the only time that its secret is shown."""

    key: str


class WebhookView(TypedDict):
    """A webhook without its secret."""

    id: ShownWebhookId
    url: str
    events: list[WebhookEvent]
    created_at: ShownTime


class CreatedWebhookView(WebhookView):
    """A new webhook; this is the only time that its secret is shown."""

    secret: str


class ChunkingView(TypedDict):
    """How a collection's texts are cut."""

    max_tokens: int
    overlap_tokens: int


class CollectionView(TypedDict):
    """A collection; `chunking` is null where the service's default holds."""

    id: ShownCollectionId
    object: Literal["collection"]
    name: str
    is_default: bool
    chunking: ChunkingView | None
    metadata: dict[str, object]
    created_at: ShownTime
    updated_at: ShownTime


class FailureView(TypedDict):
    """Why something failed; `next_attempt_at` stands while another try is waited for."""

    code: str
    message: str
    retryable: bool
    next_attempt_at: ShownTime | None


class DocumentWarningView(TypedDict):
    """What a reader should know of the version that answers; `pages` are the physical ones that it is about."""

    code: WarningCode
    message: str
    pages: NotRequired[list[int]]


class DocumentView(TypedDict):
    """A document."""

    id: ShownDocumentId
    object: Literal["document"]
    collection_id: ShownCollectionId
    file_id: ShownFileId
    filename: str
    mime_type: str
    size_bytes: int
    sha256: str | None
    status: DocumentStatus
    stage: Stage | None
    progress: float
    version: int
    chunk_count: int
    token_count: int
    attributes: dict[str, object]
    error: FailureView | None
    warnings: list[DocumentWarningView]
    created_at: ShownTime
    updated_at: ShownTime


class FileView(TypedDict):
    """A stored file."""

    id: ShownFileId
    object: Literal["file"]
    filename: str
    mime_type: str
    size_bytes: int
    sha256: str | None
    created_at: ShownTime


class PartView(TypedDict):
    """A part that the store has."""

    part_number: int
    size_bytes: int
    etag: str


class UploadErrorView(TypedDict):
    """Why an upload failed."""

    code: str
    message: str


class UploadView(TypedDict):
    """An upload session; every part but the last has `part_size_bytes`.

    Of one that an upload token opened, sizes and count are 0 until they are known.
    """

    id: ShownUploadId
    object: Literal["upload"]
    status: UploadStatus
    filename: str
    mime_type: str
    size_bytes: int
    part_size_bytes: int
    part_count: int
    collection_id: ShownCollectionId | None
    attributes: dict[str, object]
    document_id: ShownDocumentId | None
    error: UploadErrorView | None
    expires_at: ShownTime
    created_at: ShownTime


class ReceivedPartView(TypedDict):
    """A part that was received; without its etag once the parts are one file."""

    part_number: int
    size_bytes: int
    etag: str | None


class UploadStateView(UploadView):
    """An upload session with the parts that were received, and the numbers of those still to be sent."""

    received: list[ReceivedPartView]
    missing: list[int]
    received_bytes: int


class PartUrlView(TypedDict):
    """A URL that takes one part by PUT."""

    part_number: int
    url: str
    size_bytes: int


class PartUrlsView(TypedDict):
    """URLs that take parts straight into the store until they expire."""

    data: list[PartUrlView]
    expires_in_s: int


class UploadTokenView(TypedDict):
    """A new upload token, which is shown here alone, and the URL that Uppy takes for its Companion."""

    token: str
    companion_url: str
    expires_at: ShownTime


class CompanionUploadView(TypedDict):
    """A session as Uppy knows it."""

    key: str
    uploadId: ShownUploadId


class CompanionPartView(TypedDict):
    """A part as Uppy knows it."""

    PartNumber: int
    Size: int
    ETag: str


class CompanionPartUrlView(TypedDict):
    """A URL that takes one part by PUT."""

    url: str
    expires: int


class CompanionFormView(TypedDict):
    """A form that takes a small file, in the field `file` after these."""

    method: Literal["POST"]
    url: str
    fields: dict[str, str]
    expires: int


class CompanionCompletedView(TypedDict):
    """What became of an upload: `location` is the document's URL."""

    location: str
    bucket: str
    key: str
    document_id: ShownDocumentId


class TextView(TypedDict):
    """Code points `[start, end)` of a version's canonical text, which has `length` of them."""

    version: int
    start: int
    end: int
    length: int
    text: str


class ChunkView(TypedDict):
    """A chunk; its text is the canonical text from `char_start` to `char_end`."""

    id: ShownChunkId
    ordinal: int
    text: str
    content_hash: str
    char_start: int
    char_end: int
    page_first: int | None
    page_last: int | None
    heading_path: list[str]
    token_count: int


class SubjectView(TypedDict):
    """What was deleted."""

    kind: SubjectKind
    id: str


class StoreReceiptView(TypedDict):
    """What a deletion did in one store; `remaining` was counted by looking again."""

    store: str
    removed: int
    redacted: int
    remaining: int
    retained_until: ShownTime | None


class DeletionView(TypedDict):
    """A deletion and, once it is completed, its receipt."""

    id: ShownDeletionId
    subject: SubjectView
    status: DeletionStatus
    requested_at: ShownTime
    completed_at: ShownTime | None
    verified_at: ShownTime | None
    stores: list[StoreReceiptView]
    error: FailureView | None


class AcceptedDeletionView(TypedDict):
    """A deletion that was accepted; `/v1/deletions/{deletion_id}` shows what becomes of it."""

    deletion_id: ShownDeletionId


class DocumentDeletionView(AcceptedDeletionView):
    """An accepted deletion of a document."""

    document_id: ShownDocumentId
    status: Literal["deleting"]


class RunningJobView(TypedDict):
    """A job that a worker holds; `lease_left_s` is negative once the worker is late."""

    job_id: ShownJobId
    workspace_id: ShownWorkspaceId
    subject: SubjectView
    worker: str
    stage: str | None
    progress: float
    attempts: int
    rescues: int
    running_s: float
    lease_left_s: float


class QueueView(TypedDict):
    """A queue as operators see it; `next_probe_at` stands while it is paused because a provider is away."""

    queue: Queue
    queued: int
    ready: int
    running: int
    dead: int
    oldest_ready_age_s: float | None
    done_per_minute: float
    dead_per_minute: float
    paused: bool
    reason: str | None
    paused_since: ShownTime | None
    next_probe_at: ShownTime | None
    leases: list[RunningJobView]
