package lakeflow.local;

import org.apache.spark.sql.SparkSessionExtensions;
import org.apache.spark.sql.catalyst.rules.Rule;
import org.apache.spark.sql.catalyst.trees.TreeNode;
import org.apache.spark.sql.delta.files.TahoeLogFileIndex;
import org.apache.spark.sql.execution.datasources.HadoopFsRelation;
import org.apache.spark.sql.execution.datasources.LogicalRelation;
import scala.collection.Iterator;
import scala.runtime.AbstractFunction1;
import scala.runtime.BoxedUnit;

/** Has queries read Delta tables by `KnownSnapshot`; an extension of Spark's session that comes before Delta's own. */
public class KnownTables extends AbstractFunction1 {
    @Override
    public Object apply(Object extensions) {
        ((SparkSessionExtensions) extensions).injectPreCBORule(new Builder());
        return BoxedUnit.UNIT;
    }

    static class Builder extends AbstractFunction1 {
        @Override
        public Object apply(Object session) {
            return new OfQuery();
        }
    }

    static class OfQuery extends Rule {
        @Override
        public TreeNode apply(TreeNode plan) {
            Iterator leaves = plan.collectLeaves().iterator();
            while (leaves.hasNext()) {
                Object leaf = leaves.next();
                if (leaf instanceof LogicalRelation && ((LogicalRelation) leaf).relation() instanceof HadoopFsRelation) {
                    Object location = ((HadoopFsRelation) ((LogicalRelation) leaf).relation()).location();
                    if (location instanceof TahoeLogFileIndex && !((TahoeLogFileIndex) location).isTimeTravelQuery()) {
                        TahoeLogFileIndex index = (TahoeLogFileIndex) location;
                        KnownSnapshot.of(index.deltaLog(), index.deltaLog().unsafeVolatileSnapshot());
                    }
                }
            }
            return plan;
        }
    }
}
