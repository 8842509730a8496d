#!/bin/bash
set -x
failed=0
trap 'failed=6; echo "Failed: $BASH_COMMAND" >&2' ERR
cd '/src/py torch' || exit 2
export TORCHINDUCTOR_FREEZING=1
export 'A=$(b)'
export PYTHONPATH='/src/torch bench'"${PYTHONPATH:+:$PYTHONPATH}"
# The folder of the results
mkdir -p '/tmp/my logs'

# performance of huggingface: inference, amp, cpu
'/opt/my python/bin/python' -m torch.backends.xeon.run_cpu --node-id 0 benchmarks/dynamo/huggingface.py --performance --amp -dcpu '--output=/tmp/my logs/inductor_huggingface_amp_inference_cpu_performance.csv' --inference -n50 --inductor --freezing '--label=a b' --no-skip --dashboard -x 'it'"'"'s' -x GPTJForCausalLM --log-operator-inputs -k Albert -k '$(rm -rf ~)' --batch-size 8 --threads 4 --total-partitions 3 --partition-id 2 --inductor-compile-mode max-autotune --repeat 7
'/opt/my python/bin/python' -m torch.backends.xeon.run_cpu --node-id 0 benchmarks/dynamo/huggingface.py --performance --amp -dcpu '--output=/tmp/my logs/dynamo-onnx_huggingface_amp_inference_cpu_performance.csv' --inference -n5 --dynamo-onnx --freezing '--label=a b' --no-skip --dashboard -x 'it'"'"'s' -x GPTJForCausalLM --log-operator-inputs -k Albert -k '$(rm -rf ~)' --batch-size 8 --threads 4 --total-partitions 3 --partition-id 2 --inductor-compile-mode max-autotune --repeat 7

# performance of huggingface: inference, amp, cuda
'/opt/my python/bin/python' -m torch.backends.xeon.run_cpu --node-id 0 benchmarks/dynamo/huggingface.py --performance --amp -dcuda '--output=/tmp/my logs/inductor_huggingface_amp_inference_cuda_performance.csv' --inference -n50 --inductor --freezing '--label=a b' --no-skip --dashboard -x GPTJForCausalLM -x 'it'"'"'s' --log-operator-inputs -k Albert -k '$(rm -rf ~)' --batch-size 8 --threads 4 --total-partitions 3 --partition-id 2 --inductor-compile-mode max-autotune --repeat 7
'/opt/my python/bin/python' -m torch.backends.xeon.run_cpu --node-id 0 benchmarks/dynamo/huggingface.py --performance --amp -dcuda '--output=/tmp/my logs/dynamo-onnx_huggingface_amp_inference_cuda_performance.csv' --inference -n5 --dynamo-onnx --freezing '--label=a b' --no-skip --dashboard -x GPTJForCausalLM -x 'it'"'"'s' --log-operator-inputs -k Albert -k '$(rm -rf ~)' --batch-size 8 --threads 4 --total-partitions 3 --partition-id 2 --inductor-compile-mode max-autotune --repeat 7

# performance of timm_models: inference, amp, cpu
'/opt/my python/bin/python' -m torch.backends.xeon.run_cpu --node-id 0 benchmarks/dynamo/timm_models.py --performance --amp -dcpu '--output=/tmp/my logs/inductor_timm_models_amp_inference_cpu_performance.csv' --inference -n50 --inductor --freezing '--label=a b' --no-skip --dashboard -x 'it'"'"'s' -x GPTJForCausalLM --log-operator-inputs -k '^resnet' -k '^inception' -k '$(rm -rf ~)' --batch-size 8 --threads 4 --total-partitions 3 --partition-id 2 --inductor-compile-mode max-autotune --repeat 7
'/opt/my python/bin/python' -m torch.backends.xeon.run_cpu --node-id 0 benchmarks/dynamo/timm_models.py --performance --amp -dcpu '--output=/tmp/my logs/dynamo-onnx_timm_models_amp_inference_cpu_performance.csv' --inference -n5 --dynamo-onnx --freezing '--label=a b' --no-skip --dashboard -x 'it'"'"'s' -x GPTJForCausalLM --log-operator-inputs -k '^resnet' -k '^inception' -k '$(rm -rf ~)' --batch-size 8 --threads 4 --total-partitions 3 --partition-id 2 --inductor-compile-mode max-autotune --repeat 7

# performance of timm_models: inference, amp, cuda
'/opt/my python/bin/python' -m torch.backends.xeon.run_cpu --node-id 0 benchmarks/dynamo/timm_models.py --performance --amp -dcuda '--output=/tmp/my logs/inductor_timm_models_amp_inference_cuda_performance.csv' --inference -n50 --inductor --freezing '--label=a b' --no-skip --dashboard -x 'it'"'"'s' -x GPTJForCausalLM --log-operator-inputs -k '^resnet' -k '^inception' -k '$(rm -rf ~)' --batch-size 8 --threads 4 --total-partitions 3 --partition-id 2 --inductor-compile-mode max-autotune --repeat 7
'/opt/my python/bin/python' -m torch.backends.xeon.run_cpu --node-id 0 benchmarks/dynamo/timm_models.py --performance --amp -dcuda '--output=/tmp/my logs/dynamo-onnx_timm_models_amp_inference_cuda_performance.csv' --inference -n5 --dynamo-onnx --freezing '--label=a b' --no-skip --dashboard -x 'it'"'"'s' -x GPTJForCausalLM --log-operator-inputs -k '^resnet' -k '^inception' -k '$(rm -rf ~)' --batch-size 8 --threads 4 --total-partitions 3 --partition-id 2 --inductor-compile-mode max-autotune --repeat 7

# accuracy of huggingface: inference, amp, cpu
'/opt/my python/bin/python' -m torch.backends.xeon.run_cpu --node-id 0 benchmarks/dynamo/huggingface.py --accuracy --amp -dcpu '--output=/tmp/my logs/inductor_huggingface_amp_inference_cpu_accuracy.csv' --inference -n50 --inductor --freezing '--label=a b' --no-skip --dashboard -x 'it'"'"'s' -x GPTJForCausalLM --log-operator-inputs -k Albert -k '$(rm -rf ~)' --batch-size 8 --threads 4 --total-partitions 3 --partition-id 2 --inductor-compile-mode max-autotune --repeat 7
'/opt/my python/bin/python' -m torch.backends.xeon.run_cpu --node-id 0 benchmarks/dynamo/huggingface.py --accuracy --amp -dcpu '--output=/tmp/my logs/dynamo-onnx_huggingface_amp_inference_cpu_accuracy.csv' --inference -n5 --dynamo-onnx --freezing '--label=a b' --no-skip --dashboard -x 'it'"'"'s' -x GPTJForCausalLM --log-operator-inputs -k Albert -k '$(rm -rf ~)' --batch-size 8 --threads 4 --total-partitions 3 --partition-id 2 --inductor-compile-mode max-autotune --repeat 7

# accuracy of huggingface: inference, amp, cuda
'/opt/my python/bin/python' -m torch.backends.xeon.run_cpu --node-id 0 benchmarks/dynamo/huggingface.py --accuracy --amp -dcuda '--output=/tmp/my logs/inductor_huggingface_amp_inference_cuda_accuracy.csv' --inference -n50 --inductor --freezing '--label=a b' --no-skip --dashboard -x GPTJForCausalLM -x 'it'"'"'s' --log-operator-inputs -k Albert -k '$(rm -rf ~)' --batch-size 8 --threads 4 --total-partitions 3 --partition-id 2 --inductor-compile-mode max-autotune --repeat 7
'/opt/my python/bin/python' -m torch.backends.xeon.run_cpu --node-id 0 benchmarks/dynamo/huggingface.py --accuracy --amp -dcuda '--output=/tmp/my logs/dynamo-onnx_huggingface_amp_inference_cuda_accuracy.csv' --inference -n5 --dynamo-onnx --freezing '--label=a b' --no-skip --dashboard -x GPTJForCausalLM -x 'it'"'"'s' --log-operator-inputs -k Albert -k '$(rm -rf ~)' --batch-size 8 --threads 4 --total-partitions 3 --partition-id 2 --inductor-compile-mode max-autotune --repeat 7

# accuracy of timm_models: inference, amp, cpu
'/opt/my python/bin/python' -m torch.backends.xeon.run_cpu --node-id 0 benchmarks/dynamo/timm_models.py --accuracy --amp -dcpu '--output=/tmp/my logs/inductor_timm_models_amp_inference_cpu_accuracy.csv' --inference -n50 --inductor --freezing '--label=a b' --no-skip --dashboard -x 'it'"'"'s' -x GPTJForCausalLM --log-operator-inputs -k '^resnet' -k '^inception' -k '$(rm -rf ~)' --batch-size 8 --threads 4 --total-partitions 3 --partition-id 2 --inductor-compile-mode max-autotune --repeat 7
'/opt/my python/bin/python' -m torch.backends.xeon.run_cpu --node-id 0 benchmarks/dynamo/timm_models.py --accuracy --amp -dcpu '--output=/tmp/my logs/dynamo-onnx_timm_models_amp_inference_cpu_accuracy.csv' --inference -n5 --dynamo-onnx --freezing '--label=a b' --no-skip --dashboard -x 'it'"'"'s' -x GPTJForCausalLM --log-operator-inputs -k '^resnet' -k '^inception' -k '$(rm -rf ~)' --batch-size 8 --threads 4 --total-partitions 3 --partition-id 2 --inductor-compile-mode max-autotune --repeat 7

# accuracy of timm_models: inference, amp, cuda
'/opt/my python/bin/python' -m torch.backends.xeon.run_cpu --node-id 0 benchmarks/dynamo/timm_models.py --accuracy --amp -dcuda '--output=/tmp/my logs/inductor_timm_models_amp_inference_cuda_accuracy.csv' --inference -n50 --inductor --freezing '--label=a b' --no-skip --dashboard -x 'it'"'"'s' -x GPTJForCausalLM --log-operator-inputs -k '^resnet' -k '^inception' -k '$(rm -rf ~)' --batch-size 8 --threads 4 --total-partitions 3 --partition-id 2 --inductor-compile-mode max-autotune --repeat 7
'/opt/my python/bin/python' -m torch.backends.xeon.run_cpu --node-id 0 benchmarks/dynamo/timm_models.py --accuracy --amp -dcuda '--output=/tmp/my logs/dynamo-onnx_timm_models_amp_inference_cuda_accuracy.csv' --inference -n5 --dynamo-onnx --freezing '--label=a b' --no-skip --dashboard -x 'it'"'"'s' -x GPTJForCausalLM --log-operator-inputs -k '^resnet' -k '^inception' -k '$(rm -rf ~)' --batch-size 8 --threads 4 --total-partitions 3 --partition-id 2 --inductor-compile-mode max-autotune --repeat 7

exit "$failed"
