// The official clients of npm, each asking twice and as a stream: run by `make test-npm`.
import assert from "node:assert/strict";
import { createInterface } from "node:readline";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

const url = process.env.SERVICE;
const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: "sk", maxRetries: 0 });
const anthropic = new Anthropic({ baseURL: url, apiKey: "sk", maxRetries: 0 });
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

async function say(line) {
  console.log(line);
  await lines.next();
}

async function collected(stream, piece) {
  let text = "";
  for await (const event of await stream) text += piece(event) ?? "";
  return text;
}

const turns = (text) => [{ role: "user", content: text }];
const apis = {
  completions: {
    ask: async (text) =>
      (await openai.chat.completions.create({ model: "gpt-4o-mini", messages: turns(text) }))
        .choices[0].message.content,
    stream: (text) =>
      collected(
        openai.chat.completions.create({
          model: "gpt-4o-mini", messages: turns(text), stream: true,
        }),
        (event) => event.choices[0]?.delta?.content,
      ),
  },
  responses: {
    ask: async (text) =>
      (await openai.responses.create({ model: "gpt-4o-mini", input: text })).output_text,
    stream: (text) =>
      collected(
        openai.responses.create({ model: "gpt-4o-mini", input: text, stream: true }),
        (event) => (event.type === "response.output_text.delta" ? event.delta : ""),
      ),
  },
  "responses, by their own parser": {
    ask: async (text) =>
      (await openai.responses.create({ model: "gpt-4o", input: text })).output_text,
    stream: async (text) =>
      (await openai.responses.stream({ model: "gpt-4o", input: text }).finalResponse())
        .output_text,
  },
  messages: {
    ask: async (text) => {
      const found = await anthropic.messages.create({
        model: "claude-haiku-4-5", max_tokens: 99, messages: turns(text),
      });
      return found.content[0].text;
    },
    stream: async (text) => {
      const stream = anthropic.messages.stream({
        model: "claude-haiku-4-5", max_tokens: 99, messages: turns(text),
      });
      const found = await stream.finalMessage();
      assert.equal(found.stop_reason, "end_turn");
      return found.content[0].text;
    },
  },
};

for (const [name, api] of Object.entries(apis)) {
  for (const [how, first, then] of [
    ["asked first", api.ask, api.stream],
    ["streamed first", api.stream, api.ask],
  ]) {
    const text = `What is a fuse? ${name} ${how}`;
    await say(`case npm ${name}, ${how}`);
    const said = [await first(text), await first(text), await then(text), await then(text)];
    assert.ok(said[0], name);
    assert.equal(new Set(said).size, 1, `${name}: ${said}`);
    await say(`end npm ${name}, ${how}`);
  }
}
process.exit(0);
