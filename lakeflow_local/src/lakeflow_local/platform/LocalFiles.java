package lakeflow.local;

import java.io.IOException;
import java.net.URI;
import java.net.URISyntaxException;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.attribute.PosixFilePermissions;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.ChecksumFs;
import org.apache.hadoop.fs.DelegateToFileSystem;
import org.apache.hadoop.fs.FileAlreadyExistsException;
import org.apache.hadoop.fs.FileStatus;
import org.apache.hadoop.fs.FsConstants;
import org.apache.hadoop.fs.FsServerDefaults;
import org.apache.hadoop.fs.LocalFileSystem;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.fs.RawLocalFileSystem;
import org.apache.hadoop.fs.local.LocalConfigKeys;
import org.apache.hadoop.fs.permission.FsPermission;

/**
 * Files of this machine for Hadoop, by Java's own calls.
 *
 * <p>Hadoop without its native library runs a program (chmod, readlink) for each file that it makes, and four for each
 * that it renames, as Delta does in each commit. And of two processes that rename to one name, as of commits, one would
 * lose its work: here the second is told that the file is there, as in an object store.
 */
public class LocalFiles extends LocalFileSystem {
    public LocalFiles() {
        super(new Raw());
    }

    static class Raw extends RawLocalFileSystem {
        @Override
        public void setPermission(Path path, FsPermission permission) throws IOException {
            if (permission.getStickyBit()) {
                super.setPermission(path, permission);
                return;
            }
            String mode = permission.getUserAction().SYMBOL + permission.getGroupAction().SYMBOL
                + permission.getOtherAction().SYMBOL;
            Files.setPosixFilePermissions(pathToFile(path).toPath(), PosixFilePermissions.fromString(mode));
        }

        @Override
        public FileStatus getFileLinkStatus(Path path) throws IOException {
            boolean link = Files.isSymbolicLink(pathToFile(path).toPath());
            return link ? super.getFileLinkStatus(path) : getFileStatus(path);
        }
    }

    /** The same for the other of Hadoop's two interfaces. */
    public static class Context extends ChecksumFs {
        public Context(URI uri, Configuration configuration) throws IOException, URISyntaxException {
            super(new RawContext(configuration));
        }
    }

    static class RawContext extends DelegateToFileSystem {
        RawContext(Configuration configuration) throws IOException, URISyntaxException {
            super(FsConstants.LOCAL_FS_URI, new Raw(), configuration, FsConstants.LOCAL_FS_URI.getScheme(), false);
        }

        @Override
        public void renameInternal(Path source, Path target) throws IOException {
            Raw files = (Raw) fsImpl;
            java.nio.file.Path from = files.pathToFile(source).toPath();
            if (!Files.isRegularFile(from)) {
                super.renameInternal(source, target);
                return;
            }
            try {
                // Making a link, unlike renaming, fails where the name is taken.
                Files.createLink(files.pathToFile(target).toPath(), from);
            } catch (java.nio.file.FileAlreadyExistsException error) {
                throw new FileAlreadyExistsException(target + " is there already");
            } catch (NoSuchFileException error) {
                throw error;
            } catch (FileSystemException error) {
                // a file system without links
                super.renameInternal(source, target);
                return;
            }
            Files.delete(from);
        }

        @Override
        public int getUriDefaultPort() {
            return -1;
        }

        @Override
        public boolean isValidName(String name) {
            return true;
        }

        @Override
        public FsServerDefaults getServerDefaults(Path path) throws IOException {
            return LocalConfigKeys.getServerDefaults();
        }

        @Override
        public FsServerDefaults getServerDefaults() throws IOException {
            return LocalConfigKeys.getServerDefaults();
        }
    }
}
