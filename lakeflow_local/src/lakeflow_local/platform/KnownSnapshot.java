package lakeflow.local;

import java.util.ArrayList;
import java.util.List;
import org.apache.spark.sql.Dataset;
import org.apache.spark.sql.delta.CapturedSnapshot;
import org.apache.spark.sql.delta.DeltaLog;
import org.apache.spark.sql.delta.Snapshot;
import org.apache.spark.sql.delta.VersionChecksum;
import org.apache.spark.sql.delta.actions.AddFile;
import scala.Option;
import scala.collection.immutable.Seq;
import scala.jdk.javaapi.CollectionConverters;

/**
 * A version of a Delta table that takes from its checksum what stands there.
 *
 * <p>Delta writes a table's size, the last batches of its streams and, of a small table, its files into the checksum of
 * each version. It computes them all the same from the log, by a query of Spark, in each version that is asked for one
 * of them. What the checksum does not have is Delta's to compute here too.
 */
public class KnownSnapshot extends Snapshot {
    private final VersionChecksum known;

    private KnownSnapshot(Snapshot found, VersionChecksum known) {
        super(found.path(), found.version(), found.logSegment(), found.deltaLog(), found.checksumOpt());
        this.known = known;
    }

    /** The latest version of a table, with which Delta goes on until it finds or makes the next one. */
    public static Snapshot latest(DeltaLog log) {
        Option none = Option.empty();
        return of(log, log.update(false, none, none));
    }

    static Snapshot of(DeltaLog log, Snapshot found) {
        // Delta has other classes for a table that is not there yet.
        if (found.getClass() != Snapshot.class || found._computedStateTriggered() || found.checksumOpt().isEmpty()) {
            return found;
        }
        VersionChecksum checksum = (VersionChecksum) found.checksumOpt().get();
        if (checksum.setTransactions().isEmpty() || checksum.domainMetadata().isEmpty()) {
            return found;
        }
        KnownSnapshot made = new KnownSnapshot(found, checksum);
        log.snapshotLock().lock();
        try {
            CapturedSnapshot current = log.currentSnapshot();
            if (current.snapshot() != found) {
                return current.snapshot();
            }
            log.currentSnapshot_$eq(new CapturedSnapshot(made, current.updateTimestamp()));
        } finally {
            log.snapshotLock().unlock();
        }
        found.uncache();
        return made;
    }

    @Override
    public Seq setTransactions() {
        return (Seq) known.setTransactions().get();
    }

    @Override
    public Seq domainMetadata() {
        return (Seq) known.domainMetadata().get();
    }

    @Override
    public long sizeInBytes() {
        return known.tableSizeBytes();
    }

    @Override
    public long numOfFiles() {
        return known.numFiles();
    }

    @Override
    public Dataset allFiles() {
        if (known.allFiles().isEmpty()) {
            return super.allFiles();
        }
        List files = CollectionConverters.asJava((Seq) known.allFiles().get());
        return spark().createDataset(files, org.apache.spark.sql.delta.implicits.package$.MODULE$.addFileEncoder());
    }

    @Override
    public Seq getAllFiles(boolean withNumberOfRecords) {
        if (withNumberOfRecords || known.allFiles().isEmpty()) {
            return super.getAllFiles(withNumberOfRecords);
        }
        List files = new ArrayList();
        for (Object each : CollectionConverters.asJava((Seq) known.allFiles().get())) {
            AddFile file = (AddFile) each;
            files.add(
                    file.copy(
                            file.path(),
                            file.partitionValues(),
                            file.size(),
                            file.modificationTime(),
                            file.dataChange(),
                            null, // the statistics
                            file.tags(),
                            file.deletionVector(),
                            file.baseRowId(),
                            file.defaultRowCommitVersion(),
                            file.clusteringProvider(),
                            file.copy$default$12(),
                            file.copy$default$13()));
        }
        return CollectionConverters.asScala(files).toSeq();
    }
}
