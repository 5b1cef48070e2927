package weir;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import com.fasterxml.jackson.databind.ObjectWriter;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.functions.RichMapFunction;
import org.apache.flink.api.common.serialization.AbstractDeserializationSchema;
import org.apache.flink.api.common.serialization.SerializationSchema;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;

/**
 * Reads bids from a topic, and writes four fields of those with an even auction to another one, the price in euros, exactly once.
 * The same as the job `lines` of the benchmark's guest.
 */
public final class Offers {
    /** Reads a value. */
    static final class Read extends AbstractDeserializationSchema<Offer> {
        private transient ObjectReader reader;

        @Override
        public void open(InitializationContext context) {
            reader = new ObjectMapper().readerFor(Offer.class);
        }

        @Override
        public Offer deserialize(byte[] value) throws IOException {
            return reader.readValue(value);
        }
    }

    /** Writes a value. */
    static final class Write implements SerializationSchema<Offer> {
        private transient ObjectWriter writer;

        @Override
        public void open(InitializationContext context) {
            writer = new ObjectMapper().writerFor(Offer.class);
        }

        @Override
        public byte[] serialize(Offer offer) {
            try {
                return writer.writeValueAsBytes(offer);
            } catch (JsonProcessingException e) {
                throw new IllegalStateException(e);
            }
        }
    }

    /** Notes the progress, and passes records on as they are. */
    static final class Note extends RichMapFunction<Offer, Offer> {
        private transient Progress progress;

        @Override
        public void open(OpenContext context) {
            progress = new Progress();
        }

        @Override
        public Offer map(Offer offer) {
            progress.advance();
            return offer;
        }
    }

    public static void main(String[] arguments) throws Exception {
        String brokers = arguments[0], input = arguments[1], output = arguments[2];
        long records = Long.parseLong(arguments[3]);
        int parallelism = Integer.parseInt(arguments[4]);
        String folder = arguments[5];
        Progress.expect(records);

        var settings = new Configuration();
        settings.setString("pipeline.object-reuse", "true");
        settings.setString("taskmanager.numberOfTaskSlots", Integer.toString(parallelism));
        settings.setString("restart-strategy.type", "none");
        settings.setString("io.tmp.dirs", folder);
        settings.setString("execution.checkpointing.interval", "1 s");
        settings.setString("execution.checkpointing.mode", "EXACTLY_ONCE");
        settings.setString("execution.checkpointing.storage", "filesystem");
        settings.setString("execution.checkpointing.dir", "file://" + folder + "/checkpoints");
        var environment = StreamExecutionEnvironment.createLocalEnvironment(parallelism, settings);

        var source = KafkaSource.<Offer>builder()
                .setBootstrapServers(brokers)
                .setTopics(input)
                .setGroupId("flink")
                .setStartingOffsets(OffsetsInitializer.earliest())
                .setBounded(OffsetsInitializer.latest())
                .setValueOnlyDeserializer(new Read())
                .build();
        var sink = KafkaSink.<Offer>builder()
                .setBootstrapServers(brokers)
                .setRecordSerializer(KafkaRecordSerializationSchema.<Offer>builder()
                        .setTopic(output)
                        .setValueSerializationSchema(new Write())
                        .build())
                .setDeliveryGuarantee(DeliveryGuarantee.EXACTLY_ONCE)
                .setTransactionalIdPrefix(output)
                .setProperty("transaction.timeout.ms", "900000")
                .setProperty("compression.type", "lz4")
                // Batches as librdkafka makes them for Weir; those of Java's defaults, 16 kB and 5 ms, make for more requests.
                .setProperty("linger.ms", "50")
                .setProperty("batch.size", "1000000")
                .setProperty("buffer.memory", "67108864")
                .build();
        environment.fromSource(source, WatermarkStrategy.noWatermarks(), "bids")
                .map(new Note())
                .filter(offer -> offer.auction % 2 == 0)
                .map(offer -> {
                    offer.price = offer.price * 908 / 1000;
                    return offer;
                })
                .returns(Offer.class)
                .sinkTo(sink);

        var begin = Progress.Instant.now();
        environment.execute("offers");
        var over = Progress.Instant.now();
        Progress.Instant half = Progress.half(), end = Progress.end();
        if (half == null || end == null) {
            throw new IllegalStateException(input + " has not " + records + " records");
        }
        System.out.printf(
                Locale.ROOT,
                "{\"seconds\": %.3f, \"cpu_seconds\": %.3f, \"second_half_events_per_s\": %.0f, "
                        + "\"second_half_events_per_cpu_s\": %.0f, \"peak_rss_mb\": %d}%n",
                over.secondsSince(begin),
                over.cpuSecondsSince(begin),
                records / 2 / end.secondsSince(half),
                records / 2 / end.cpuSecondsSince(half),
                peakKb() / 1000);
    }

    /** The most memory that the process has had. */
    private static long peakKb() throws IOException {
        try (var lines = Files.lines(Path.of("/proc/self/status"))) {
            return lines.filter(line -> line.startsWith("VmHWM:"))
                    .mapToLong(line -> Long.parseLong(line.replaceAll("\\D", "")))
                    .findFirst()
                    .orElseThrow();
        }
    }
}
