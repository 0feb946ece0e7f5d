/**
 * What is around every page: navigation, search, time, colours, the state of the connection, messages.
 *
 * Invariant: the login and the pages share it, so a session that ends keeps the address; when the
 * server is lost, the page says so, and since when its data are old.
 */
import type { ComponentChildren } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { Jobs } from './parts/actions/jobs.tsx';
import { Icon, Mark } from './parts/icons.tsx';
import { KeyHelp } from './parts/key-help.tsx';
import { announce, announcement } from './state/announce.ts';
import { clock } from './state/format.ts';
import { isGoing, isHelpOpen } from './state/keys.ts';
import { live, tryNow } from './state/live.ts';
import { isIn, PLACES } from './state/places.ts';
import { setTimeMode, type Theme, type TimeMode, theme, timeMode } from './state/preferences.ts';
import { BASE, go, part, place, visits } from './state/router.ts';
import { logOut, missing, root } from './state/session.ts';

export function Shell({ children }: { children: ComponentChildren }) {
  const [isMenuOpen, setMenuOpen] = useState(false);
  const visit = visits.value;
  useEffect(() => setMenuOpen(false), [visit]);
  return (
    <>
      <button
        type="button"
        class="skip"
        onClick={() => document.querySelector<HTMLElement>('#content')?.focus()}
      >
        To the content
      </button>
      <div class="shell">
        <header class="side">
          <div class="side-top">
            <a class="brand" href={`${BASE}/`}>
              <Mark />
              <span>Rivulet</span>
            </a>
            <button
              type="button"
              class="menu-button"
              aria-expanded={isMenuOpen}
              aria-controls="menu"
              onClick={() => setMenuOpen(!isMenuOpen)}
            >
              {isMenuOpen ? 'Close' : 'Menu'}
            </button>
          </div>
          <div id="menu" class={isMenuOpen ? 'menu open' : 'menu'}>
            <Search />
            <Navigation />
            <div class="side-foot">
              <Connection />
              <TimeSwitch />
              <ThemeSwitch />
              <User />
              <p class="keys-hint">
                <button type="button" class="link" onClick={() => (isHelpOpen.value = true)}>
                  Keyboard <kbd>?</kbd>
                </button>
              </p>
            </div>
          </div>
        </header>
        <main id="content" tabIndex={-1}>
          <Outage />
          {children}
          <Jobs />
        </main>
      </div>
      <KeyHelp />
      <div class={isGoing.value ? 'going' : 'going out-of-sight'} aria-hidden="true">
        {isGoing.value &&
          `g … ${PLACES.map(({ letter, text }) => `${letter} ${text}`).join(' · ')}`}
      </div>
      <div role="status" aria-live="polite" class={announcement.value === '' ? 'said' : 'said on'}>
        {announcement.value}
      </div>
    </>
  );
}

function Navigation() {
  const { path } = place.value;
  return (
    <nav aria-label="Main">
      <ul class="nav">
        {PLACES.map((each) => (
          <li key={each.to}>
            <a
              href={BASE + each.to}
              class={each.needs !== null && missing(each.needs) !== null ? 'without' : ''}
              {...(isIn(path, each) ? { 'aria-current': 'page' as const } : {})}
            >
              <Icon name={each.icon} />
              {each.text}
            </a>
          </li>
        ))}
      </ul>
    </nav>
  );
}

/** A trace id, a topic and an id, or a part of a topic's name. */
function Search() {
  const input = useRef<HTMLInputElement>(null);
  return (
    <form
      role="search"
      class="search"
      onSubmit={(event) => {
        event.preventDefault();
        const text = input.current?.value.trim() ?? '';
        if (text === '') return;
        const message = /^(\S+)\s+(\d+(?:-\d+)?)$/.exec(text);
        if (/^[0-9a-f]{32}$/i.test(text)) go(`/traces/${text.toLowerCase()}`);
        else if (message !== null) go(`/journey/${part(message[1])}/${message[2]}`);
        else go(`/topics?q=${encodeURIComponent(text)}`);
      }}
    >
      <label class="out-of-sight" for="search">
        Search: part of a topic's name, a topic and an id, or a trace id
      </label>
      <input
        ref={input}
        id="search"
        type="search"
        placeholder="Search"
        autocomplete="off"
        spellcheck={false}
        onKeyDown={(event) => {
          if (event.key === 'Escape') event.currentTarget.blur();
        }}
      />
      <kbd aria-hidden="true">/</kbd>
    </form>
  );
}

function Connection() {
  const state = live.value;
  const texts = {
    idle: ['○', 'Not live: this page does not change'],
    paused: ['○', 'Paused while hidden'],
    opening: ['◐', 'Connecting'],
    live: ['●', 'Live'],
    refused: ['○', 'Not live: the server gives no stream'],
    lost: ['▲', 'No connection'],
  } as const;
  const [mark, text] = texts[state.is];
  return (
    <p class={`connection connection-${state.is}`}>
      <span aria-hidden="true">{mark}</span> {state.is === 'idle' ? 'Connected' : text}
    </p>
  );
}

function Outage() {
  const state = live.value;
  if (state.is !== 'lost') return null;
  return (
    <div class="outage" role="alert">
      <p>
        <strong>
          <span aria-hidden="true">▲ </span>No connection since{' '}
          {clock(state.since, timeMode.value === 'utc' ? 'utc' : 'local')}.
        </strong>{' '}
        What you see is from before. The page tries again by itself.
      </p>
      <button type="button" onClick={tryNow}>
        Try now
      </button>
    </div>
  );
}

function Choice<T extends string>({
  label,
  value,
  options,
  choose,
}: {
  label: string;
  value: T;
  options: readonly (readonly [value: T, text: string])[];
  choose: (value: T) => void;
}) {
  return (
    <fieldset class="choice">
      <legend>{label}</legend>
      {options.map(([each, text]) => (
        <label key={each}>
          <input
            type="radio"
            name={label}
            value={each}
            checked={each === value}
            onChange={() => choose(each)}
          />
          <span>{text}</span>
        </label>
      ))}
    </fieldset>
  );
}

const TIME_MODES: readonly (readonly [TimeMode, string])[] = [
  ['relative', 'ago'],
  ['local', 'local'],
  ['utc', 'UTC'],
];

function TimeSwitch() {
  return <Choice label="Time" value={timeMode.value} options={TIME_MODES} choose={setTimeMode} />;
}

const THEMES: readonly (readonly [Theme, string])[] = [
  ['auto', 'auto'],
  ['light', 'light'],
  ['dark', 'dark'],
];

function ThemeSwitch() {
  return (
    <Choice
      label="Colours"
      value={theme.value}
      options={THEMES}
      choose={(value) => {
        theme.value = value;
      }}
    />
  );
}

function User() {
  const value = root.value;
  if (value === null) return null;
  return (
    <p class="user">
      <span class="muted">
        {value.broker.kind}
        {value.broker.address !== '' && <> · {value.broker.address}</>}
      </span>
      {value.user !== '' && (
        <>
          <br />
          {value.user} {value.readOnly && <span class="muted">(read only)</span>}
        </>
      )}
      {value.login && (
        <>
          {' '}
          <button
            type="button"
            class="link"
            onClick={async () => {
              await logOut();
              announce('You are logged out');
            }}
          >
            Log out
          </button>
        </>
      )}
    </p>
  );
}
