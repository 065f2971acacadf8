//! Placeholder until the service is built.
