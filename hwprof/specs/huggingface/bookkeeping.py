"""Which keys of any ``config.json`` change no count? Those of the base class, of text generation and of tools."""

from __future__ import annotations

_BASE = """
architectures attn_implementation auto_map chunk_size_feed_forward classifier_dropout dtype finetuning_task id2label
label2id model_type name_or_path output_attentions output_hidden_states problem_type return_dict task_specific_params
tf_legacy_loss tokenizer_class torch_dtype torchscript transformers_version use_bfloat16 use_cache
gradient_checkpointing
"""

_TOKENS = """
bos_token_id eos_token_id pad_token_id sep_token_id cls_token_id mask_token_id unk_token_id eod_token_id
decoder_start_token_id boi_token_index eoi_token_index image_token_index image_token_id prefix
"""

_GENERATION = """
max_length min_length max_new_tokens do_sample early_stopping num_beams num_beam_groups diversity_penalty temperature
top_p typical_p repetition_penalty length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids
num_return_sequences output_scores return_dict_in_generate forced_bos_token_id forced_eos_token_id
remove_invalid_values exponential_decay_length_penalty suppress_tokens begin_suppress_tokens forced_decoder_ids
"""

_NUMERICS = """
initializer_range initializer_factor init_std init_method norm_eps rms_norm_eps layer_norm_eps layer_norm_epsilon
layer_norm_rms_epsilon attention_softmax_in_fp32 pretraining_tp output_router_logits router_aux_loss_coef
aux_loss_alpha seq_aux ep_size rope_scaling rope_interleave original_max_position_embeddings
"""

_TOOLS = """
transformers.js_config unsloth_version unsloth_fixed onnx neftune_noise_alpha use_return_dict language quantization
is_llama_config rope_interleaved full_attn_mod interpolate_factor predict_special_tokens n_special ff_factor
"""

BOOKKEEPING = frozenset(f"{_BASE} {_TOKENS} {_GENERATION} {_NUMERICS} {_TOOLS}".split())
"""Keys that no reader has to name. Keys that begin with an underscore are bookkeeping too, unless a reader asks."""
