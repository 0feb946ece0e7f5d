/** Scheduler: the file is in src/util; this name remains for the imports of this folder. */
export * from '../util/scheduler.ts';
