/** Compiles files of Java into a folder, the first argument, where there is no JDK. */
public class Compile {
    public static void main(String[] arguments) throws Exception {
        org.codehaus.commons.compiler.ICompiler compiler = new org.codehaus.janino.Compiler();
        compiler.setDestinationDirectory(new java.io.File(arguments[0]), true);
        java.io.File[] files = new java.io.File[arguments.length - 1];
        for (int i = 0; i < files.length; i++) {
            files[i] = new java.io.File(arguments[i + 1]);
        }
        compiler.compile(files);
    }
}
