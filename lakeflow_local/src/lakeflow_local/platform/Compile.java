/** Compiles a file of Java, the first argument, into the folder that is the second one, where there is no JDK. */
public class Compile {
    public static void main(String[] arguments) throws Exception {
        org.codehaus.commons.compiler.ICompiler compiler = new org.codehaus.janino.Compiler();
        compiler.setDestinationDirectory(new java.io.File(arguments[1]), true);
        compiler.compile(new java.io.File[] {new java.io.File(arguments[0])});
    }
}
