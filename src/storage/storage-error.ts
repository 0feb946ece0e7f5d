/**
 * What can be wrong with a data directory: a closed set of codes.
 *
 * A code is API; a message says what happened, why, and what to do, in sentences for an operator.
 */
export type StorageCode =
  /** Acknowledged data in the log is damaged. */
  | 'LOG_DAMAGED'
  /** Part of the log that is needed is not there. */
  | 'LOG_MISSING'
  /** Written by a newer version than this one. */
  | 'NEWER_FORMAT'
  /** FORMAT is damaged, beside files that are ours. */
  | 'FORMAT_DAMAGED'
  /** A file with one of our names that is not ours. */
  | 'FOREIGN_FILE'
  /** Another live process holds the directory. */
  | 'DIRECTORY_IN_USE'
  | 'DIRECTORY_NOT_WRITABLE'
  | 'NOT_A_DIRECTORY'
  /** The checkpoint cannot be opened, or a value of it fails its checksum. */
  | 'CHECKPOINT_DAMAGED'
  /** This checkpoint could not be written; the log is kept and the next one tries again. */
  | 'CHECKPOINT_FAILED'
  /** There is no room, or no file descriptor, for what has to be written now. It may pass. */
  | 'DISK_FULL'
  /** The disk failed to write or to sync; nothing can be trusted to it any more. */
  | 'DISK_FAILED'
  | 'CLOSED';

export class StorageError extends Error {
  readonly code: StorageCode;
  /** The file concerned, where there is one. */
  readonly file: string | undefined;
  /** Byte offset in that file, where it is known. */
  readonly offset: number | undefined;

  constructor(
    code: StorageCode,
    message: string,
    details: { file?: string; offset?: number; cause?: unknown } = {},
  ) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = 'StorageError';
    this.code = code;
    this.file = details.file;
    this.offset = details.offset;
  }
}

/** The operating system's code of an error, '' when it has none. */
export function systemCode(error: unknown): string {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'string' ? code : '';
}

/** Whether an error means that there is no room, which passes, unlike a broken disk. */
export function isNoSpace(error: unknown): boolean {
  const code = systemCode(error);
  return code === 'ENOSPC' || code === 'EDQUOT' || code === 'EFBIG' || code === 'DISK_FULL';
}

/** Whether what failed may succeed a little later: for want of room, or of a file descriptor. */
export function isPassing(error: unknown): boolean {
  const code = systemCode(error);
  return isNoSpace(error) || code === 'EMFILE' || code === 'ENFILE';
}

/**
 * A failure of the file system as a StorageError that says what could not be done; anything else as it
 * is.
 */
export function storageFailure(what: string, file: string, error: unknown): unknown {
  if (error instanceof StorageError || systemCode(error) === '') return error;
  const message = `Cannot ${what}: ${describe(error)}.`;
  return new StorageError(failureCode(error), message, { file, cause: error });
}

function failureCode(error: unknown): StorageCode {
  if (isNoSpace(error)) return 'DISK_FULL';
  return ['EACCES', 'EPERM', 'EROFS'].includes(systemCode(error))
    ? 'DIRECTORY_NOT_WRITABLE'
    : 'DISK_FAILED';
}

/** What a person would call the error, without the path and the system call that Node adds. */
export function describe(error: unknown): string {
  switch (systemCode(error)) {
    case 'ENOSPC':
      return 'No space left on device';
    case 'EDQUOT':
      return 'Disk quota exceeded';
    case 'EFBIG':
      return 'File too large';
    case 'EIO':
      return 'Input/output error';
    case 'EMFILE':
      return 'Too many open files';
    case 'ENFILE':
      return 'Too many open files in system';
    case 'EROFS':
      return 'Read-only file system';
    case 'EACCES':
    case 'EPERM':
      return 'Permission denied';
    default:
      return error instanceof Error ? error.message : String(error);
  }
}
