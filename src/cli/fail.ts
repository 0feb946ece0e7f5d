/**
 * How a command says that it could not: one line on standard error, and exit code 1.
 */
export function fail(message: string): void {
  process.stderr.write(`micro: ${message}\n`);
  process.exitCode = 1;
}
