//! The run's curves as TensorBoard reads them: records of its `Event` messages in a file `events.out.tfevents.*`.
//!
//! A record is the length of its bytes, the bytes, and a masked CRC-32C of each (TensorFlow's `record_writer.cc`); the
//! messages are those of `event.proto` and `summary.proto`, as far as they are written here.

use crc::{CRC_32_ISCSI, Crc};
use prost::Message;

use super::record::Record;

/// The version of the format, which stands in the first record.
const VERSION: &str = "brain.Event:2";
/// `SessionLog.START`: what lies behind its step, written by a run that was killed, is out of date.
const START: i32 = 1;
/// CRC-32C.
const CHECKSUM: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    session_log: Option<SessionLog>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, tag = "2")]
    simple_value: f32,
}

#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// What a file begins with that goes on after `steps` steps.
pub(super) fn opening(wall_time: f64, steps: u64) -> Vec<u8> {
    let version = Event { wall_time, file_version: Some(VERSION.to_owned()), ..Event::default() };
    let session_log = Some(SessionLog { status: START });
    let start = Event { wall_time, step: as_step(steps + 1), session_log, ..Event::default() };
    [frame(&version), frame(&start)].concat()
}

/// The values of a log's record, as of the latest `steps`; nothing for a record without any.
pub(super) fn of(record: &Record, wall_time: f64, steps: u64) -> Option<Vec<u8>> {
    let (step, values) = match *record {
        Record::Step { step, loss, lr, .. } => (step, vec![("train/loss", loss), ("train/learning_rate", lr)]),
        Record::Epoch { train_loss, val_loss, val_top1, val_miou, .. } => {
            let of_all = [("epoch/train_loss", train_loss), ("epoch/val_loss", val_loss), ("epoch/val_top1", val_top1)];
            (steps, of_all.into_iter().chain(val_miou.map(|miou| ("epoch/val_miou", miou))).collect())
        }
        _ => return None,
    };
    let value = values.into_iter().map(|(tag, simple_value)| Value { tag: tag.to_owned(), simple_value }).collect();
    Some(frame(&Event { wall_time, step: as_step(step), summary: Some(Summary { value }), ..Event::default() }))
}

fn as_step(step: u64) -> i64 {
    i64::try_from(step).unwrap_or(i64::MAX)
}

fn frame(event: &Event) -> Vec<u8> {
    let data = event.encode_to_vec();
    let length = (data.len() as u64).to_le_bytes();
    [&length[..], &masked(&length), &data, &masked(&data)].concat()
}

/// A checksum that is turned and shifted, so that one over bytes that hold checksums is no degenerate case.
fn masked(bytes: &[u8]) -> [u8; 4] {
    CHECKSUM.checksum(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The events of a file, each checked by its sums.
    fn read(mut bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        while !bytes.is_empty() {
            let (length, rest) = bytes.split_at(8);
            let count = u64::from_le_bytes(length.try_into().unwrap()) as usize;
            assert_eq!(rest[..4], masked(length));
            let (data, rest) = rest[4..].split_at(count);
            assert_eq!(rest[..4], masked(data));
            events.push(Event::decode(data).unwrap());
            bytes = &rest[4..];
        }
        events
    }

    #[test]
    fn checksums_are_those_of_tensorflow() {
        // What every file of TensorFlow's begins with: 24 bytes follow.
        assert_eq!(opening(1.0, 0)[..12], [24, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22]);
        assert_eq!(CHECKSUM.checksum(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn steps_and_epochs_are_values_at_their_step() {
        let step = Record::Step { epoch: 1, step: 7, loss: 0.5, lr: 1e-3 };
        let epoch = Record::Epoch {
            epoch: 1,
            train_loss: 0.6,
            val_loss: 0.7,
            val_top1: 0.75,
            val_miou: None,
            kept: true,
            seconds: 1.0,
        };
        let skipped = Record::Skipped { path: "a".into(), reason: "b".into() };
        assert_eq!(of(&skipped, 0.0, 7), None);
        let bytes = [opening(1.0, 6), of(&step, 2.0, 7).unwrap(), of(&epoch, 3.0, 7).unwrap()].concat();
        let events = read(&bytes);
        assert_eq!(events[0].file_version.as_deref(), Some(VERSION));
        assert_eq!((events[1].step, events[1].session_log.clone()), (7, Some(SessionLog { status: START })));
        let values = |event: &Event| -> Vec<(String, f32)> {
            event.summary.iter().flat_map(|summary| &summary.value).map(|v| (v.tag.clone(), v.simple_value)).collect()
        };
        assert_eq!(events[2].step, 7);
        assert_eq!(values(&events[2]), [("train/loss".to_owned(), 0.5), ("train/learning_rate".to_owned(), 1e-3)]);
        assert_eq!(values(&events[3])[2], ("epoch/val_top1".to_owned(), 0.75));
    }
}
