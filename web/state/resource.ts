/**
 * What a page shows: read once, then kept current by the live stream.
 *
 * Invariants: the last good value stays on the page while a newer one is read or cannot be had; a value
 * of another path is never shown, nor one that was asked for before what the live stream has brought; what
 * the stream says is gone is not shown any longer.
 */
import { useEffect, useRef, useState } from 'preact/hooks';
import type { ApiError, Series } from '../../src/console/api-types.ts';
import { ApiFailure, failureOf, get } from './api.ts';
import { keep, keptValue } from './kept.ts';
import { lose, recoveries, watch as watchLive } from './live.ts';
import { loseSession } from './session.ts';

export interface Resource<T> {
  readonly path: string;
  readonly value: T | undefined;
  /** Why it could not be read last. */
  readonly failure: ApiFailure | undefined;
  /** Reads it again. */
  reload(): void;
}

/** `path` null reads nothing. `watch` names the same thing for the live stream. */
export function useResource<T>(path: string | null, watch: string | null = null): Resource<T> {
  const [round, setRound] = useState(0);
  const [state, setState] = useState<{
    path: string | null;
    value?: T | undefined;
    failure?: ApiFailure | undefined;
  }>({ path, value: keptValue<T>(path) });
  const again = recoveries.value;
  /** How many frames of the live stream this page has had. */
  const frames = useRef(0);

  useEffect(() => {
    if (path === null) return;
    const stop = new AbortController();
    const before = frames.current;
    get<T>(path, stop.signal).then(
      (value) => {
        // A frame that came meanwhile may be newer, and the next one is sent only after a change.
        if (stop.signal.aborted || frames.current !== before) return;
        keep(path, value);
        setState({ path, value });
      },
      (error) => {
        if (stop.signal.aborted) return;
        const failure = failureOf(error);
        if (failure.status === 401) loseSession(failure);
        if (failure.isOutage) lose();
        setState((before) => ({
          path,
          value: before.path === path && failure.isOutage ? before.value : undefined,
          failure,
        }));
      },
    );
    return () => stop.abort();
  }, [path, round, again]);

  useEffect(() => {
    if (watch === null || path === null) return;
    return watchLive(watch, (live) => {
      if (live.kind === 'error') {
        const failure = liveFailure(live.error);
        if (failure === null) return;
        frames.current += 1;
        setState({ path, failure });
      }
      if (live.kind === 'value') {
        frames.current += 1;
        const value = withSeries(keptValue(path), live.value) as T;
        keep(path, value);
        setState({ path, value });
      }
    });
  }, [watch, path]);

  const reload = () => setRound((before) => before + 1);
  if (state.path !== path) {
    return { path: path ?? '', value: keptValue<T>(path), failure: undefined, reload };
  }
  return { path: path ?? '', value: state.value, failure: state.failure, reload };
}

/** Of the errors of a live stream those that end what is shown; others pass, and it goes on by itself. */
const ENDS: Readonly<Record<string, number>> = { NOT_FOUND: 404, PERMISSION_DENIED: 403 };

function liveFailure(error: ApiError): ApiFailure | null {
  const status = ENDS[error.code];
  return status === undefined ? null : new ApiFailure(status, error);
}

const SERIES = ['series', 'seconds', 'minutes'];
const MINUTES = 1440;
const SECONDS = 600;

/** A frame brings only the newest points of its series: they are put behind those that are here. */
function withSeries(before: unknown, now: unknown): unknown {
  if (!isObject(before) || !isObject(now)) return now;
  const merged: Record<string, unknown> = { ...now };
  for (const name of SERIES) {
    const [old, fresh] = [before[name], now[name]] as [Series | null, Series | null];
    if (old && fresh) merged[name] = joined(old, fresh);
  }
  return merged;
}

function joined(old: Series, fresh: Series): Series {
  const { stepMs } = fresh;
  const start = Math.round((fresh.from - old.from) / stepMs);
  const most = stepMs < 60_000 ? SECONDS : MINUTES;
  // Points that are further apart than a whole chart have nothing to be put behind.
  if (old.stepMs !== stepMs || start < 0 || start > most) return fresh;
  const length = (values: readonly unknown[] | undefined) => values?.length ?? 0;
  const total = Math.max(...Object.values(fresh.values).map((values) => start + length(values)), 0);
  const cut = Math.max(0, total - most);
  const values: Record<string, (number | null)[]> = {};
  for (const [name, points] of Object.entries(fresh.values)) {
    const known = old.values[name] ?? [];
    const all = Array.from({ length: start }, (_, at) => known[at] ?? null);
    values[name] = [...all, ...points].slice(cut);
  }
  return { from: old.from + cut * stepMs, stepMs, values };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
