"""A self-hosted, multi-tenant retrieval backend: uploads, durable ingestion, answers with checked citations."""
