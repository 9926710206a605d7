//! The live page and the HTTP interface: `/`, `/stream`, `/events`, `/classify`, `/healthz`, `/metrics`.
