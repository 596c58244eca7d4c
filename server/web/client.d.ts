/* The types of client.js. openapi.yaml says what the fields mean; a test compares the names. */

/** The fields of POST /generate; client.js sets `stream`. */
export interface GenerateRequest {
  /** A text, or token ids; a list of either asks for a text of each. */
  prompt?: string | string[] | number[] | number[][];
  length?: number;
  temperature?: number;
  seed?: number;
  top_k?: number;
  top_p?: number;
  min_p?: number;
  repetition_penalty?: number;
  presence_penalty?: number;
  frequency_penalty?: number;
  repetition_window?: number;
  logit_bias?: Record<string, number>;
  stop?: string | string[];
  include_stop?: boolean;
  min_length?: number;
  regex?: string;
  choices?: string[];
  choice_mode?: "sample" | "likeliest";
  ignore_eos?: boolean;
  n?: number;
  best_of?: number;
  logprobs?: number;
  session?: string;
  state?: string | StateNumbers;
  return_state?: boolean;
  cache_prompt?: boolean;
  unknown?: "skip" | "error";
  label?: string;
  model?: string;
}

/** A hidden state as numbers: what each layer of the model remembers. */
export interface StateNumbers {
  layers: { h: number[]; c?: number[] }[];
}

export type FinishReason = "length" | "eos" | "stop" | "pattern";

export interface TokenProbability {
  id: number;
  token: string;
  logprob: number;
}

export interface Logprob extends TokenProbability {
  top_logprobs: TokenProbability[];
}

export interface Usage {
  prompt_tokens: number;
  cached_tokens: number;
  completion_tokens: number;
}

export interface Timings {
  queue_ms: number;
  prompt_ms: number;
  generate_ms: number;
  tokens_per_second: number;
}

export interface Choice {
  index: number;
  /** Which prompt of the list; absent if there is one text. */
  prompt_index?: number;
  text: string;
  completion: string;
  finish_reason: FinishReason;
  /** null if the random generator of a state went on. */
  seed: number | null;
  logprobs?: Logprob[];
  state?: string;
}

export interface Generation extends Omit<Choice, "index"> {
  id: string;
  model: string;
  choices?: Choice[];
  usage: Usage;
  timings: Timings;
  warnings: string[];
}

export interface StreamEvent {
  id: string;
  index: number;
  prompt_index?: number;
  delta: string;
  token_count: number;
  logprobs?: Logprob[];
  model?: string;
  finish_reason?: FinishReason;
  seed?: number | null;
  usage?: Usage;
  timings?: Timings;
  warnings?: string[];
  state?: string;
}

export interface ScoreRequest {
  text: string;
  state?: string | StateNumbers;
  return_state?: boolean;
  unknown?: "skip" | "error";
  label?: string;
  model?: string;
}

export interface Score {
  model: string;
  tokens: TokenProbability[];
  token_count: number;
  characters: number;
  nats: number;
  nats_per_token: number;
  nats_per_char: number;
  bits_per_char: number;
  perplexity: number;
  warnings: string[];
  state?: string;
}

export interface StateRequest {
  text?: string;
  ids?: number[];
  state?: string | StateNumbers;
  as?: "opaque" | "numbers";
  unknown?: "skip" | "error";
  label?: string;
  model?: string;
}

export interface State<Form = string> {
  model: string;
  state: Form;
  token_count: number;
  warnings: string[];
}

export interface TokenizeRequest {
  text: string;
  model?: string;
}

export interface Tokens {
  model: string;
  ids: number[];
  tokens: string[];
  skipped: number;
}

export interface DetokenizeRequest {
  ids: number[];
  model?: string;
}

export interface Model {
  name: string;
  state: "loaded" | "loading" | "unloaded";
  default: boolean;
  [property: string]: unknown;
}

export interface Problem {
  type: string;
  title: string;
  status: number;
  detail: string;
  instance?: string;
  errors?: { field: string; message: string }[];
}

/** What calls throw, besides the signal's reason after an abort. */
export class LstmdError extends Error {}

/** No answer came, or it broke off. `cause` is what fetch threw. */
export class ConnectionError extends LstmdError {
  cause?: unknown;
}

/** The daemon refused the request, or failed while it sent a stream. */
export class ProblemError extends LstmdError {
  /** The document; empty if something else than the daemon answered. */
  readonly problem: Partial<Problem>;
  /** The HTTP status, or the problem's if a stream failed on the way. */
  readonly status: number;
  /** What is wrong, by the name of the field. */
  readonly fields: Record<string, string>;
  /** Names the request in the daemon's log. */
  readonly requestId: string | null;
  /** Seconds, or null. */
  readonly retryAfter: number | null;
}

export interface CallOptions {
  /** Its abort closes the connection, which ends the work in the daemon. */
  signal?: AbortSignal;
}

export interface RequestOptions extends CallOptions {
  method?: string;
  headers?: Record<string, string>;
}

/** A server-sent event. */
export interface ServerEvent {
  id?: string;
  type: string;
  data: string;
}

export interface LstmdOptions {
  /** The daemon; the one that served client.js if it is absent. */
  baseURL?: string | URL;
  /** Sent as bearer token. */
  token?: string;
  /** How often a request is sent again after 429 or 503 with Retry-After; 2 if it is absent. */
  retries?: number;
  /** The longest Retry-After that is waited for, in seconds; 10 if it is absent. */
  maxWait?: number;
  /** Used instead of the global one. */
  fetch?: typeof fetch;
}

/** A text as it is written: iterate over it for its pieces, or over events() for all that comes with them. Both read the
 * same stream, once. Leaving the loop ends the request. */
export class TextStream implements AsyncIterable<string> {
  private constructor();
  /** The pieces of the (first) text, never with half a character. */
  [Symbol.asyncIterator](): AsyncIterator<string, void, undefined>;
  /** All events, of all continuations. */
  events(): AsyncGenerator<StreamEvent, void, undefined>;
  /** What generate() would have given; reads what has not been read. */
  result(): Promise<Generation>;
}

export interface NextToken {
  /** "" if the text ended. */
  text: string;
  /** Likeliest first, 20 at most, as the model gives them: before temperature and other options. */
  probabilities: { text: string; probability: number }[];
  finish_reason: FinishReason;
}

/** A text that goes on from call to call, one call at a time, as one longer request would have written it. The state is
 * here and not in the daemon. A call that fails changes nothing. */
export class Writer {
  private constructor();
  /** A text that the network reads before it writes on. */
  feed(text: string): this;
  /** The next token, usually a character, and how likely the likeliest ones are. */
  next(request?: GenerateRequest, options?: CallOptions): Promise<NextToken>;
  generate(request?: GenerateRequest, options?: CallOptions): Promise<Generation>;
  stream(request?: GenerateRequest, options?: CallOptions): TextStream;
  /** Forgets the text, and a call that is running. */
  reset(): void;
  /** What the network remembers: keep it, and set it to go on from it, here or in another writer. null: nothing. */
  get state(): string | StateNumbers | null;
  set state(state: string | StateNumbers | null);
}

/** A daemon. */
export class Lstmd {
  constructor(options?: LstmdOptions);
  readonly baseURL: string;
  token?: string;
  retries: number;
  maxWait: number;
  generate(request?: GenerateRequest, options?: CallOptions): Promise<Generation>;
  /** The request goes out when the stream is first read. */
  stream(request?: GenerateRequest, options?: CallOptions): TextStream;
  /** A text that goes on from call to call; `defaults` are fields of all its requests. */
  writer(defaults?: GenerateRequest): Writer;
  score(request: ScoreRequest, options?: CallOptions): Promise<Score>;
  /** The state after a text, for `state` of a request. */
  state(request: StateRequest & { as: "numbers" }, options?: CallOptions): Promise<State<StateNumbers>>;
  state(request: StateRequest & { as?: "opaque" }, options?: CallOptions): Promise<State>;
  tokenize(request: TokenizeRequest, options?: CallOptions): Promise<Tokens>;
  detokenize(request: DetokenizeRequest, options?: CallOptions): Promise<{ model: string; text: string }>;
  models(options?: CallOptions): Promise<Model[]>;
  model(name: string, options?: CallOptions): Promise<Model>;
  /** Any route that answers with JSON: POST with a body, else GET. */
  call(path: string, body?: BodyInit | object, options?: RequestOptions): Promise<any>;
  /** The server-sent events of a route, such as train/1/events. */
  events(path: string, options?: RequestOptions): AsyncGenerator<ServerEvent>;
  /** Any route, answered as fetch() does. */
  request(path: string, body?: BodyInit | object, options?: RequestOptions): Promise<Response>;
}
