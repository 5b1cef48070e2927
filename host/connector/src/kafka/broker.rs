//! A broker of Apache Kafka for tests: a real one, alone, on loopback, gone when it is dropped. It can be frozen, killed and started again.
//!
//! `scripts/setup test` has put its jars into `${WEIR_CACHE:-~/.cache/weir}/kafka`.

// A failed set-up panics: this is code of tests.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

/// How long the broker, or anything that is asked of it, may take.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A broker that runs.
pub struct Broker {
    /// none while it is killed
    process: Mutex<Option<Child>>,
    folder: PathBuf,
    port: u16,
    encrypted_ports: [u16; 2],
}

/// A record to send.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record<'a> {
    /// none = the broker's choice
    pub partition: Option<i32>,
    /// its key
    pub key: Option<&'a [u8]>,
    /// its value; none = a tombstone
    pub value: Option<&'a [u8]>,
    /// milliseconds since 1970; none = now
    pub timestamp: Option<i64>,
    /// its headers
    pub headers: &'a [(&'a str, &'a [u8])],
}

impl Broker {
    /// Starts a broker and waits until it answers. `settings` are lines for its configuration.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(settings: &str) -> Self {
        Self::start_with(settings, None)
    }

    /// Starts one that is also reached by TLS, at one address by those who have a certificate of the authority, at another by the user `ann` with this password.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start_encrypted(authority: &[u8], identity: &[u8], password: &str) -> Self {
        Self::start_with("", Some((authority, identity, password)))
    }

    fn start_with(settings: &str, encrypted: Option<(&[u8], &[u8], &str)>) -> Self {
        let [port, controller, tls, sasl] = free_ports();
        let folder = std::env::temp_dir().join(format!("weir-kafka-{}-{port}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let configuration = folder.join("server.properties");
        let text = format!(
            "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
transaction.abort.timed.out.transaction.cleanup.interval.ms=200
group.initial.rebalance.delay.ms=0
log.cleaner.enable=false
num.io.threads=2
num.network.threads=2
{settings}
",
            data = folder.join("data").display()
        );
        let mut format = java(&folder, "kafka.tools.StorageTool");
        format.args(["format", "--cluster-id", "weirweirweirweirweirwQ", "--config"]).arg(&configuration);
        let text = match encrypted {
            None => text,
            Some((authority, identity, password)) => {
                fs::write(folder.join("authority.pem"), authority).unwrap();
                fs::write(folder.join("identity.pem"), identity).unwrap();
                for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
                    format.args(["--add-scram", &format!("{mechanism}=[name=ann,password={password}]")]);
                }
                // Of a setting that comes twice, the last one counts.
                text + &format!(
                    "listeners=PLAINTEXT://127.0.0.1:{port},SSL://127.0.0.1:{tls},SASL_SSL://127.0.0.1:{sasl},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},SSL://127.0.0.1:{tls},SASL_SSL://127.0.0.1:{sasl}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL
inter.broker.listener.name=PLAINTEXT
ssl.keystore.type=PEM
ssl.keystore.location={folder}/identity.pem
ssl.truststore.type=PEM
ssl.truststore.location={folder}/authority.pem
listener.name.ssl.ssl.client.auth=required
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_ann=\"{password}\";
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
",
                    folder = folder.display()
                )
            }
        };
        fs::write(&configuration, text).unwrap();
        let formatted = format.status();
        assert!(formatted.unwrap().success(), "the broker's folder cannot be made: {}", log_of(&folder));
        let broker = Self { process: Mutex::new(None), folder, port, encrypted_ports: [tls, sasl] };
        broker.start_again();
        broker
    }

    /// Starts one that was killed: with what it holds, at the same address. Waits until it answers.
    pub fn start_again(&self) {
        let mut process = java(&self.folder, "kafka.Kafka").arg(self.folder.join("server.properties")).spawn().unwrap();
        let begin = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let is_over = process.try_wait().unwrap().is_some() || begin.elapsed() > TIMEOUT;
            assert!(!is_over, "the broker does not start: {}", log_of(&self.folder));
            std::thread::sleep(Duration::from_millis(50));
        }
        *self.process.lock().unwrap() = Some(process);
        self.client().create::<BaseConsumer>().unwrap().fetch_metadata(None, TIMEOUT).unwrap();
    }

    /// Kills it. What it holds stays in its folder.
    pub fn kill(&self) {
        if let Some(mut process) = self.process.lock().unwrap().take() {
            // What fails here is gone already.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Stops it where it is: connections stay, and nobody answers.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let process = self.process.lock().unwrap();
        let pid = process.as_ref().expect("the broker runs").id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Its address.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its address for those who have a certificate, and for those who log in.
    pub fn encrypted_addresses(&self) -> [String; 2] {
        self.encrypted_ports.map(|port| format!("127.0.0.1:{port}"))
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.address());
        config
    }

    /// Makes a topic.
    pub fn create_topic(&self, name: &str, partitions: i32) {
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let results = block_on(self.admin().create_topics([&topic], &AdminOptions::new().operation_timeout(Some(TIMEOUT))));
        results.unwrap().into_iter().for_each(|result| assert_eq!(result.unwrap(), name));
        // The controller has it; the broker hears of it a moment later.
        let (consumer, begin) = (self.client().create::<BaseConsumer>().unwrap(), Instant::now());
        loop {
            let metadata = consumer.fetch_metadata(Some(name), TIMEOUT).unwrap();
            if metadata.topics().iter().any(|topic| topic.error().is_none() && topic.partitions().len() == partitions as usize) {
                break;
            }
            assert!(begin.elapsed() < TIMEOUT, "the topic {name} does not come");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Deletes a topic, and waits until the broker has forgotten it.
    pub fn delete_topic(&self, name: &str) {
        let results = block_on(self.admin().delete_topics(&[name], &AdminOptions::new().operation_timeout(Some(TIMEOUT))));
        results.unwrap().into_iter().for_each(|result| assert_eq!(result.unwrap(), name));
        let (consumer, begin) = (self.client().create::<BaseConsumer>().unwrap(), Instant::now());
        while consumer.fetch_metadata(Some(name), TIMEOUT).unwrap().topics().iter().any(|topic| topic.error().is_none()) {
            assert!(begin.elapsed() < TIMEOUT, "the topic {name} does not go");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Deletes the records of a partition before an offset, as retention does.
    pub fn trim(&self, topic: &str, partition: i32, before: i64) {
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(topic, partition, Offset::Offset(before)).unwrap();
        let trimmed = block_on(self.admin().delete_records(&offsets, &AdminOptions::new().operation_timeout(Some(TIMEOUT))));
        trimmed.unwrap().elements().iter().for_each(|element| element.error().unwrap());
    }

    /// Gives a topic more partitions, so many in all.
    pub fn set_partitions(&self, topic: &str, partitions: usize) {
        let options = AdminOptions::new().operation_timeout(Some(TIMEOUT));
        let results = block_on(self.admin().create_partitions([&NewPartitions::new(topic, partitions)], &options));
        results.unwrap().into_iter().for_each(|result| assert_eq!(result.unwrap(), topic));
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().unwrap()
    }

    /// Sends records, and waits until the broker has them.
    pub fn send<'a>(&self, topic: &str, records: impl IntoIterator<Item = Record<'a>>) {
        let producer: BaseProducer = self.client().set("partitioner", "murmur2_random").create().unwrap();
        for record in records {
            let mut sent: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic);
            (sent.partition, sent.key, sent.payload, sent.timestamp) =
                (record.partition, record.key, record.value, record.timestamp);
            let headers = record
                .headers
                .iter()
                .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(*value) }));
            producer.send(sent.headers(headers)).map_err(|(e, _)| e).unwrap();
        }
        producer.flush(TIMEOUT).unwrap();
    }

    /// The keys and values of all that a topic has, by partition and offset. `committed`: without those of transactions that were not committed; this does not
    /// go beyond the first transaction that is open.
    pub fn read(&self, topic: &str, committed: bool) -> Vec<(Option<String>, String)> {
        let mut config = self.client();
        config.set("group.id", "weir-tests").set("enable.auto.commit", "false").set("enable.partition.eof", "true");
        config.set("isolation.level", if committed { "read_committed" } else { "read_uncommitted" });
        let consumer: BaseConsumer = config.create().unwrap();
        let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT).unwrap();
        let mut assignment = TopicPartitionList::new();
        let partitions = metadata.topics()[0].partitions();
        for partition in partitions {
            assignment.add_partition_offset(topic, partition.id(), Offset::Beginning).unwrap();
        }
        consumer.assign(&assignment).unwrap();
        let (mut records, mut ended) = (vec![], 0);
        while ended < partitions.len() {
            match consumer.poll(TIMEOUT).expect("the broker answers") {
                Ok(record) => {
                    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                    let place = (record.partition(), record.offset());
                    records.push((place, (record.key().map(text), record.payload().map(text).unwrap_or_default())));
                }
                Err(KafkaError::PartitionEOF(_)) => ended += 1,
                Err(e) => panic!("{topic} cannot be read: {e}"),
            }
        }
        records.sort();
        records.into_iter().map(|(_, record)| record).collect()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A class of Kafka's, to be run. What it says goes to a file in the folder.
fn java(folder: &Path, class: &str) -> Command {
    let cache = std::env::var_os("WEIR_CACHE").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/weir")));
    let jars = cache.expect("there is a home folder").join("kafka");
    assert!(jars.is_dir(), "Kafka is not in {}: run `scripts/setup test`", jars.display());
    let log = File::options().create(true).append(true).open(folder.join("log")).unwrap();
    let mut command = Command::new("java");
    // It starts often and runs for seconds: simple machine code, and a collector without threads.
    command.args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.net.preferIPv4Stack=true", "-cp"]);
    command.arg(jars.join("*")).arg(class).current_dir(folder);
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    command
}

fn log_of(folder: &Path) -> String {
    fs::read_to_string(folder.join("log")).unwrap_or_default()
}

/// Ports that nobody listens on.
fn free_ports() -> [u16; 4] {
    let listeners = [(); 4].map(|()| TcpListener::bind(("127.0.0.1", 0)).unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}
