package weir;

import com.sun.management.OperatingSystemMXBean;
import java.lang.management.ManagementFactory;
import java.util.concurrent.atomic.AtomicLong;

/** How far all readers of this process are, and what it has taken them until the middle of the input and until its end. */
final class Progress {
    /** A reader tells of so many records at once. */
    private static final int STEP = 1000;

    private static final AtomicLong read = new AtomicLong();
    private static volatile long records;
    private static volatile Instant half, end;

    /** A moment, and the CPU time of the process until then. */
    record Instant(long wallNs, long cpuNs) {
        static Instant now() {
            var system = (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
            return new Instant(System.nanoTime(), system.getProcessCpuTime());
        }

        double secondsSince(Instant other) {
            return (wallNs - other.wallNs) / 1e9;
        }

        double cpuSecondsSince(Instant other) {
            return (cpuNs - other.cpuNs) / 1e9;
        }
    }

    private long mine;

    static void expect(long records) {
        Progress.records = records;
    }

    static Instant half() {
        return half;
    }

    /** When nearly all was read: up to a step of each reader. */
    static Instant end() {
        return end;
    }

    /** A record was read. */
    void advance() {
        if (++mine % STEP != 0) {
            return;
        }
        long before = read.getAndAdd(STEP), after = before + STEP;
        if (before < records / 2 && after >= records / 2) {
            half = Instant.now();
        }
        if (after > records - 10L * STEP) {
            end = Instant.now();
        }
    }
}
