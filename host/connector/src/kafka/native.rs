//! Hands over records many at a time, as librdkafka can and its bindings cannot: for each record, these read the clock several times, look up its topic by
//! name, and take locks that others want.
//!
//! No other module calls librdkafka by itself, so all that has to be argued for is here.

use std::ffi::{CStr, CString, c_int, c_void};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings::{
    RD_KAFKA_MSG_F_COPY, rd_kafka_DescribeTopics, rd_kafka_DescribeTopics_result_topics, rd_kafka_TopicCollection_destroy,
    rd_kafka_TopicCollection_of_topic_names, rd_kafka_TopicDescription_error, rd_kafka_TopicDescription_t,
    rd_kafka_TopicDescription_topic_id, rd_kafka_Uuid_base64str, rd_kafka_Uuid_least_significant_bits,
    rd_kafka_Uuid_most_significant_bits, rd_kafka_consume_batch_queue, rd_kafka_error_code, rd_kafka_event_DescribeTopics_result,
    rd_kafka_event_destroy, rd_kafka_event_error, rd_kafka_event_t, rd_kafka_get_watermark_offsets, rd_kafka_header_get_all,
    rd_kafka_headers_t, rd_kafka_message_destroy, rd_kafka_message_headers, rd_kafka_message_t, rd_kafka_message_timestamp,
    rd_kafka_produce_batch, rd_kafka_queue_destroy, rd_kafka_queue_get_partition, rd_kafka_queue_new, rd_kafka_queue_poll,
    rd_kafka_queue_t, rd_kafka_resp_err_t, rd_kafka_timestamp_type_t, rd_kafka_topic_destroy, rd_kafka_topic_name,
    rd_kafka_topic_new, rd_kafka_topic_t,
};
use rdkafka::client::{Client, ClientContext};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::source::Consumer;

/// For a record whose partition librdkafka chooses: a constant of its header that the bindings lack.
const ANY_PARTITION: i32 = -1;
/// So many records are taken out of a queue at a time. They do not count as fetched ahead any more, so there should not be many.
const TAKEN_MAX: usize = 256;

/// The offset behind the newest record of a partition, as the brokers' last answer to a fetch had it; none if there was no answer yet. Does not wait.
pub(super) fn end(consumer: &Consumer, topic: &str, partition: i32) -> Option<i64> {
    let topic = CString::new(topic).ok()?;
    let (mut oldest, mut end) = (0, 0);
    // SAFETY: the client is there, the topic is a text that ends with a zero, and there is room for what is written: two offsets.
    let code = unsafe {
        let client = consumer.client().native_ptr();
        rd_kafka_get_watermark_offsets(client, topic.as_ptr(), partition, &raw mut oldest, &raw mut end)
    };
    // What is not known is a negative number.
    (code == rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR && end >= 0).then_some(end)
}

/// Asks the brokers what tells a topic from those that had its name before, and waits for so long at most; none = they give no ids.
///
/// # Errors
/// Why there is no answer, or that there is no such topic.
pub(super) fn topic_id(consumer: &Consumer, topic: &str, timeout: Duration) -> Result<Option<String>, RDKafkaErrorCode> {
    let topic = CString::new(topic).map_err(|_| RDKafkaErrorCode::InvalidTopic)?;
    let timeout = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
    let mut names = [topic.as_ptr()];
    // SAFETY: the client is there. The names are texts that end with a zero, of which the collection has copies, and the request has its own. Collection,
    // queue and event are nobody else's and are destroyed once, when nobody looks at them any more; an answer that comes later finds no queue, and is dropped.
    unsafe {
        let client = consumer.client().native_ptr();
        let answers = rd_kafka_queue_new(client);
        let topics = rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        rd_kafka_DescribeTopics(client, topics, ptr::null(), answers);
        rd_kafka_TopicCollection_destroy(topics);
        let event = rd_kafka_queue_poll(answers, timeout);
        let id = NonNull::new(event).ok_or(RDKafkaErrorCode::OperationTimedOut).and_then(|event| described(event));
        rd_kafka_event_destroy(event);
        rd_kafka_queue_destroy(answers);
        id
    }
}

/// The id of the only topic of an answer.
///
/// # Safety
/// The event is there.
unsafe fn described(event: NonNull<rd_kafka_event_t>) -> Result<Option<String>, RDKafkaErrorCode> {
    let checked = |code| match code {
        rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        code => Err(RDKafkaErrorCode::from(code)),
    };
    // SAFETY: the event is there, and one without an error is the answer, which has as many topics as it says. A topic that it has is not null, and is not
    // looked at once the event is destroyed. No error is null, which has a code, too.
    unsafe {
        checked(rd_kafka_event_error(event.as_ptr()))?;
        let mut count = 0;
        let topics = rd_kafka_DescribeTopics_result_topics(rd_kafka_event_DescribeTopics_result(event.as_ptr()), &raw mut count);
        let topic = if count > 0 { *topics } else { ptr::null() };
        if topic.is_null() {
            return Err(RDKafkaErrorCode::UnknownTopic);
        }
        checked(rd_kafka_error_code(rd_kafka_TopicDescription_error(topic)))?;
        Ok(id_of(topic))
    }
}

/// The id of a topic, as Kafka's tools write it.
///
/// # Safety
/// The topic is there.
unsafe fn id_of(topic: *const rd_kafka_TopicDescription_t) -> Option<String> {
    // SAFETY: the topic is there, and its id is part of it. The text of the id ends with a zero, if there is one, and belongs to the id.
    unsafe {
        let id = rd_kafka_TopicDescription_topic_id(topic);
        let is_given = rd_kafka_Uuid_most_significant_bits(id) != 0 || rd_kafka_Uuid_least_significant_bits(id) != 0;
        let text = NonNull::new(rd_kafka_Uuid_base64str(id).cast_mut()).filter(|_| is_given)?;
        Some(CStr::from_ptr(text.as_ptr()).to_string_lossy().into_owned())
    }
}

/// What was fetched of a partition.
pub(super) struct Queue {
    queue: NonNull<rd_kafka_queue_t>,
    /// what was taken out of the queue last
    taken: Vec<NonNull<rd_kafka_message_t>>,
    /// the first of them that was not given yet
    next: usize,
    /// has to be there as long as its queue and messages
    consumer: Arc<Consumer>,
}

// SAFETY: librdkafka's queues and messages are bound to no thread, and those that are here to nobody else.
unsafe impl Send for Queue {}

impl Queue {
    /// The queue of a partition; none if there is no such partition.
    pub fn new(consumer: Arc<Consumer>, topic: &str, partition: i32) -> Option<Self> {
        let topic = CString::new(topic).ok()?;
        // SAFETY: the client is there, and the topic is a text that ends with a zero.
        let queue = unsafe { rd_kafka_queue_get_partition(consumer.client().native_ptr(), topic.as_ptr(), partition) };
        Some(Self { queue: NonNull::new(queue)?, taken: Vec::with_capacity(TAKEN_MAX), next: 0, consumer })
    }

    /// The next record, or what there is to tell instead of one; none if nothing was fetched. Does not wait.
    pub fn next(&mut self) -> Option<Result<Record<'_>, KafkaError>> {
        if self.next == self.taken.len() {
            self.take();
        }
        let message = *self.taken.get(self.next)?;
        self.next += 1;
        // SAFETY: the message is one of `taken`, which are not destroyed before the queue is borrowed again.
        let (code, partition) = unsafe { ((*message.as_ptr()).err, (*message.as_ptr()).partition) };
        let record = Record { message, queue: PhantomData };
        Some(match code {
            rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(record),
            rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__PARTITION_EOF => Err(KafkaError::PartitionEOF(partition)),
            code => {
                let code = RDKafkaErrorCode::from(code);
                // The reason stands where the value would.
                let reason = String::from_utf8_lossy(record.value().unwrap_or_default());
                self.consumer.context().error(KafkaError::Global(code), &reason);
                Err(KafkaError::MessageConsumption(code))
            }
        })
    }

    /// Takes out of the queue what is there.
    fn take(&mut self) {
        self.destroy_taken();
        // SAFETY: there is room for TAKEN_MAX pointers, which are all that is written, and a `NonNull` is one in memory. As many as the call says are
        // messages, and none of these is null.
        unsafe {
            let room = self.taken.as_mut_ptr().cast::<*mut rd_kafka_message_t>();
            let count = rd_kafka_consume_batch_queue(self.queue.as_ptr(), 0, room, TAKEN_MAX);
            self.taken.set_len(usize::try_from(count).unwrap_or(0));
        }
    }

    fn destroy_taken(&mut self) {
        self.next = 0;
        for message in self.taken.drain(..) {
            // SAFETY: the message came from the queue, has not been destroyed, and is forgotten now.
            unsafe { rd_kafka_message_destroy(message.as_ptr()) };
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.destroy_taken();
        // SAFETY: the queue is a reference of its own, which nobody else has.
        unsafe { rd_kafka_queue_destroy(self.queue.as_ptr()) };
    }
}

/// A record of a partition, until the next one is asked for.
pub(super) struct Record<'a> {
    message: NonNull<rd_kafka_message_t>,
    queue: PhantomData<&'a Queue>,
}

impl<'a> Record<'a> {
    fn message(&self) -> &rd_kafka_message_t {
        // SAFETY: the message is there as long as the queue is borrowed, and nobody writes to it: what librdkafka keeps beside it lies behind this part.
        unsafe { self.message.as_ref() }
    }

    /// The key, if it has one.
    pub fn key(&self) -> Option<&'a [u8]> {
        let message = self.message();
        // SAFETY: of the message, so there as long as it.
        unsafe { bytes(message.key, message.key_len) }
    }

    /// The value, if it has one.
    pub fn value(&self) -> Option<&'a [u8]> {
        let message = self.message();
        // SAFETY: of the message, so there as long as it.
        unsafe { bytes(message.payload, message.len) }
    }

    /// The name of its topic.
    pub fn topic(&self) -> &'a [u8] {
        // SAFETY: a record has a topic, which is there as long as the record, and so is its name.
        unsafe { CStr::from_ptr(rd_kafka_topic_name(self.message().rkt)) }.to_bytes()
    }

    /// Its partition.
    pub fn partition(&self) -> i32 {
        self.message().partition
    }

    /// Its offset.
    pub fn offset(&self) -> i64 {
        self.message().offset
    }

    /// Its timestamp in milliseconds since 1970, if it has one.
    pub fn timestamp(&self) -> Option<i64> {
        let mut kind = rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is there.
        let time = unsafe { rd_kafka_message_timestamp(self.message.as_ptr(), &raw mut kind) };
        (time != -1 && kind != rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE).then_some(time)
    }

    /// The keys and values of its headers.
    pub fn headers(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        let mut headers: *mut rd_kafka_headers_t = ptr::null_mut();
        // SAFETY: the message is there. What is written are headers that belong to it, or nothing.
        unsafe { rd_kafka_message_headers(self.message.as_ptr(), &raw mut headers) };
        let mut index = 0;
        std::iter::from_fn(move || {
            let (mut key, mut value, mut length) = (ptr::null(), ptr::null(), 0);
            if headers.is_null() {
                return None;
            }
            // SAFETY: the headers belong to the message. All three are written if there is a header of this index, and point into the message.
            unsafe {
                let code = rd_kafka_header_get_all(headers, index, &raw mut key, &raw mut value, &raw mut length);
                index += 1;
                let is_there = code == rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
                is_there.then(|| (CStr::from_ptr(key).to_bytes(), bytes(value, length)))
            }
        })
    }
}

/// Some bytes; none if there are none.
///
/// # Safety
/// What is not null points to so many bytes, which nobody writes to for as long as `'a`.
unsafe fn bytes<'a>(start: *const c_void, length: usize) -> Option<&'a [u8]> {
    // SAFETY: as the caller says.
    (!start.is_null()).then(|| unsafe { slice::from_raw_parts(start.cast(), length) })
}

/// A record to be sent.
#[repr(transparent)]
pub(super) struct Outgoing<'a> {
    message: rd_kafka_message_t,
    bytes: PhantomData<&'a [u8]>,
}

impl<'a> Outgoing<'a> {
    pub fn new(key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> Self {
        let pointer = |bytes: Option<&[u8]>| bytes.map_or(ptr::null(), <[u8]>::as_ptr).cast::<c_void>().cast_mut();
        let message = rd_kafka_message_t {
            err: rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR,
            rkt: ptr::null_mut(),
            partition: ANY_PARTITION,
            payload: pointer(value),
            len: value.map_or(0, <[u8]>::len),
            key: pointer(key),
            key_len: key.map_or(0, <[u8]>::len),
            offset: 0,
            _private: ptr::null_mut(),
        };
        Self { message, bytes: PhantomData }
    }
}

/// A topic that is written to. It has to go before its client.
pub(super) struct Target(NonNull<rd_kafka_topic_t>);

// SAFETY: librdkafka's topics are bound to no thread, and locked where they have to be.
unsafe impl Send for Target {}

impl Target {
    /// A topic of a client; none if it cannot be one by its name.
    pub fn new<C: ClientContext>(client: &Client<C>, topic: &str) -> Option<Self> {
        let topic = CString::new(topic).ok()?;
        // SAFETY: the client is there, and the topic is a text that ends with a zero. Without settings of its own, it has those of the client.
        NonNull::new(unsafe { rd_kafka_topic_new(client.native_ptr(), topic.as_ptr(), ptr::null_mut()) }).map(Self)
    }

    /// Hands over records, in their order; their bytes are copied. Where there is no room for all, the first ones are taken.
    ///
    /// # Errors
    /// How many of them, from the first one on, were taken, and why the next one was not.
    pub fn send(&self, records: &mut [Outgoing<'_>]) -> Result<(), (usize, RDKafkaErrorCode)> {
        let count = c_int::try_from(records.len()).expect("few records are sent at a time");
        let messages = records.as_mut_ptr().cast::<rd_kafka_message_t>();
        // SAFETY: so many messages are there, an `Outgoing` is one in memory, and what they point to is borrowed. It is read only.
        let sent = unsafe { rd_kafka_produce_batch(self.0.as_ptr(), ANY_PARTITION, RD_KAFKA_MSG_F_COPY, messages, count) };
        if sent == count {
            return Ok(());
        }
        let refused = |record: &Outgoing<'_>| record.message.err != rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
        match records.iter().position(refused) {
            Some(first) => Err((first, records[first].message.err.into())),
            None => Ok(()),
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // SAFETY: the topic is a reference of its own, which nobody else has.
        unsafe { rd_kafka_topic_destroy(self.0.as_ptr()) };
    }
}
