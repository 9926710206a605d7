//! Observations to an MQTT broker.
