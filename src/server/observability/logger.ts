/**
 * What the server says to its operator. One method per level of Redis's `loglevel`.
 */
export type LogLevel = 'debug' | 'verbose' | 'notice' | 'warning';

export interface Logger {
  write(level: LogLevel, message: string, fields?: Readonly<Record<string, unknown>>): void;
}

export const silentLogger: Logger = { write() {} };
